//! Where a client's password comes from.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use crate::cli::error::CliError;
use crate::cli::files;

/// The first line of a file.
pub(crate) fn from_password_file(file: &Path) -> Result<String, CliError> {
    let bytes = files::read_all(file)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::Usage(format!("the password in {} is not UTF-8", file.display())))?;
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        true => Err(CliError::Usage(format!("{} is empty", file.display()))),
        false => Ok(line.to_owned()),
    }
}

/// `PGPASSFILE`, or `~/.pgpass`: lines of `host:port:database:user:password`, where `*` is any.
/// As by libpq, a file that others may read is not used.
pub(crate) fn from_pgpass(host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let file = std::env::var_os("PGPASSFILE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")))?;
    if !files::is_private(&file)? {
        super::tell(&format!(
            "chronos: {} is not used, as others may read it; chmod 600 helps",
            file.display()
        ));
        return None;
    }
    let text = String::from_utf8(files::read_all(&file).ok()?).ok()?;
    let port = port.to_string();
    let wanted = [host, &port, database, user];
    text.lines().find_map(|line| in_line(line, wanted))
}

fn in_line(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => fields.last_mut()?.extend(characters.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    let matches = |(field, wanted): (&String, &str)| field == "*" || field == wanted;
    let fits = fields.len() == 5 && fields.iter().zip(wanted).all(matches);
    fits.then(|| fields.swap_remove(4))
}

/// Asks for a password at the terminal, without showing it; `None`: there is no terminal.
pub(crate) fn prompt(user: &str) -> Option<String> {
    use rustix::termios::{tcgetattr, tcsetattr, LocalModes, OptionalActions};
    let terminal = files::terminal()?;
    let shown = tcgetattr(&terminal).ok()?;
    let mut hidden = shown.clone();
    hidden.local_modes &= !LocalModes::ECHO;
    let mut out = &terminal;
    write!(out, "Password for user {user}: ").ok()?;
    out.flush().ok()?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden).ok()?;
    let mut line = String::new();
    let read = BufReader::new(&terminal).read_line(&mut line);
    // Whatever was read, the terminal must show what is typed again.
    let _ = tcsetattr(&terminal, OptionalActions::Flush, &shown);
    let _ = writeln!(out);
    read.ok()?;
    Some(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// `Authorization` of a user and a password.
pub(crate) fn basic(user: &str, password: &[u8]) -> String {
    use base64::Engine as _;
    let pair = [user.as_bytes(), b":", password].concat();
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

/// `Authorization` of whoever the arguments and the environment name; `None`: nobody.
pub(crate) fn authorization(login: &super::LoginArgs) -> Result<Option<String>, CliError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let password = match &login.password_file {
        Some(file) => Some(from_password_file(file)?),
        None => variable("PGPASSWORD"),
    };
    let user = login.user.clone().or_else(|| variable("PGUSER"));
    Ok(match (user, password) {
        (Some(user), Some(password)) => Some(basic(&user, password.as_bytes())),
        _ => variable("CHRONOS_AUTH_TOKEN_ADMIN").map(|token| format!("Bearer {token}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_pgpass_match_as_libpq_matches_them() {
        let wanted = ["db", "5433", "farm", "ada"];
        let of = |line: &str| in_line(line, wanted);
        assert_eq!(of("db:5433:farm:ada:p").as_deref(), Some("p"));
        assert_eq!(of("*:*:*:*:a\\:b\\\\c:d").as_deref(), Some("a:b\\c:d"));
        assert_eq!(of("*:*:*:bob:p"), None);
        assert_eq!(of("#*:*:*:*:p"), None);
        assert_eq!(of("*:*:*:ada"), None);
        assert_eq!(basic("ada", b"p:w"), "Basic YWRhOnA6dw==");
    }
}
