//! Wrong bytes anywhere: an error that names the place, or a cut tail, never a panic and
//! never entries that were not written.

use chronos_env::{Disk, SimDisk};
use proptest::prelude::*;

use super::*;

/// A log of several files, closed. Returns its entries and the files' names.
fn closed_log(disk: &SimDisk, options: LogOptions) -> (Vec<LogEntry>, Vec<String>) {
    let (log, _) = open(&env_on(disk, 1), options);
    for index in 1..30 {
        append(&log, vec![entry(index, payload(index, 0))]).unwrap();
    }
    let entries = read_all(&log);
    log.close().unwrap();
    let mut names = disk.read_dir(dir()).unwrap();
    names.retain(|it| it.ends_with(".log"));
    (entries, names)
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let disk = SimDisk::new(1);
    let (entries, names) = closed_log(&disk, small_files());
    assert!(names.len() > 3);
    let (mut errors, mut intact, mut cut) = (0, 0, 0);
    let lens: Vec<_> = names
        .iter()
        .map(|name| disk.file_len(&dir().join(name)).unwrap())
        .collect();
    for (number, (name, len)) in names.iter().zip(lens).enumerate() {
        let path = dir().join(name);
        for offset in (0..64).chain((4096..len).step_by(3)) {
            let disk = disk.restart(offset);
            disk.flip_bits(&path, offset, 1 << (offset % 8)).unwrap();
            match Log::open(&env_on(&disk, 1), dir(), small_files()) {
                Ok((log, _)) => {
                    let found = read_all(&log);
                    assert_eq!(found, entries[..found.len()]);
                    if found.len() == entries.len() {
                        intact += 1;
                    } else {
                        // Only the very last record can be taken for a torn write.
                        assert_eq!(number, names.len() - 1, "{name} at {offset}");
                        assert_eq!(found.len(), entries.len() - 1, "{name} at {offset}");
                        cut += 1;
                    }
                }
                Err(LogError::Damaged {
                    path: found,
                    offset: at,
                    ..
                }) => {
                    assert_eq!(found, path);
                    assert!(at <= offset);
                    errors += 1;
                }
                Err(LogError::UnsupportedVersion { .. }) => errors += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(
        errors > 500 && intact > 10 && cut > 5,
        "{errors} {intact} {cut}"
    );
}

#[test]
fn a_missing_file_in_the_middle_is_damage() {
    let disk = SimDisk::new(1);
    let (_, names) = closed_log(&disk, small_files());
    disk.remove_file(&dir().join(&names[1])).unwrap();
    let error = Log::open(&env_on(&disk, 1), dir(), small_files()).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&names[0]), "{error}");
}

#[test]
fn an_emptied_or_renamed_file_is_damage() {
    for replacement in ["", "CHRONLOG"] {
        let disk = SimDisk::new(1);
        let (_, names) = closed_log(&disk, small_files());
        let file = disk.create(&dir().join(&names[0])).unwrap();
        file.write_at(replacement.as_bytes(), 0).unwrap();
        let error = Log::open(&env_on(&disk, 1), dir(), small_files()).unwrap_err();
        assert!(
            matches!(error, LogError::Damaged { offset: 0, .. }),
            "{error}"
        );
    }
    let disk = SimDisk::new(1);
    let (_, names) = closed_log(&disk, small_files());
    let from = dir().join(names.last().unwrap());
    disk.rename(&from, &dir().join("00000000000000ff.log"))
        .unwrap();
    let error = Log::open(&env_on(&disk, 1), dir(), small_files()).unwrap_err();
    assert!(error.to_string().contains("sequence number"), "{error}");
}

/// The end of the last file is not known from its records: a cut there looks like entries that
/// were never written.
#[test]
fn a_file_that_was_cut_is_damage() {
    for file in 0..2 {
        let disk = SimDisk::new(1);
        let (_, names) = closed_log(&disk, small_files());
        let name = if file == 0 {
            &names[0]
        } else {
            names.last().unwrap()
        };
        let path = dir().join(name);
        let bytes = disk.file_len(&path).unwrap();
        disk.open_write(&path).unwrap().set_len(bytes - 8).unwrap();
        let error = Log::open(&env_on(&disk, 1), dir(), small_files()).unwrap_err();
        let LogError::Damaged { path, offset, .. } = &error else {
            panic!("{error}");
        };
        assert!(path.ends_with(name) && *offset == bytes - 8, "{error}");
    }
}

#[test]
fn damage_behind_the_open_is_reported_by_the_reader() {
    let disk = SimDisk::new(1);
    let (entries, names) = closed_log(&disk, small_files());
    let (log, _) = open(&env_on(&disk, 1), small_files());
    disk.flip_bits(&dir().join(&names[1]), 4096 + 50, 1)
        .unwrap();
    let found: Vec<_> = log.read(LogIndex(1)).unwrap().collect();
    assert!(found.len() < entries.len());
    assert!(matches!(found.last(), Some(Err(LogError::Damaged { .. }))));
}

#[test]
fn foreign_names_in_the_directory_are_left_alone() {
    let disk = SimDisk::new(1);
    closed_log(&disk, small_files());
    for name in ["README", "1.log", "000000000000000G.log", "zz.spare"] {
        disk.create(&dir().join(name)).unwrap();
    }
    let (log, _) = open(&env_on(&disk, 1), small_files());
    assert_eq!(read_all(&log).len(), 29);
    assert!(disk.exists(&dir().join("1.log")).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn overwritten_ranges_never_panic(
        file in 0_usize..20,
        at in 0_u64..6000,
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        len in prop::option::of(0_u64..6000),
    ) {
        let disk = SimDisk::new(1);
        let (entries, names) = closed_log(&disk, small_files());
        let path = dir().join(&names[file % names.len()]);
        let target = disk.open_write(&path).unwrap();
        target.write_at(&bytes, at).unwrap();
        if let Some(len) = len {
            target.set_len(len).unwrap();
        }
        if let Ok((log, _)) = Log::open(&env_on(&disk, 1), dir(), small_files()) {
            let found = read_all(&log);
            prop_assert_eq!(&found[..], &entries[..found.len()]);
        }
    }
}
