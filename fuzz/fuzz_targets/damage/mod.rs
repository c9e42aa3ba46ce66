//! What a fuzzer's bytes do to a valid file: flips, overwritten bytes, a cut.

/// Damages a file as the bytes say: pieces of 4 are a place (16 bits, stretched over the file),
/// what is done there, and an operand.
pub fn damage(file: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks_exact(4) {
        if file.is_empty() {
            return;
        }
        let place = usize::from(u16::from_le_bytes([piece[0], piece[1]]));
        let at = match piece[2] & 0x80 {
            // Near one of the ends, where the frame is.
            0 => place * file.len() / 65_536,
            _ if piece[2] & 0x40 == 0 => place.min(file.len() - 1),
            _ => file.len() - 1 - place.min(file.len() - 1),
        };
        match piece[2] & 0x3f {
            0..=39 => file[at] ^= piece[3],
            40..=49 => file[at] = piece[3],
            50..=54 => {
                let end = (at + usize::from(piece[3])).min(file.len());
                file[at..end].fill(0);
            }
            55..=58 => file.truncate(at),
            _ => file.extend(std::iter::repeat_n(piece[3], place % 64)),
        }
    }
}
