//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's half: verifiers and the exchange.
//!
//! ```text
//!     client  n,,n=,r=<nonce>                              first
//!     server  r=<nonce+ours>,s=<salt>,i=<iterations>
//!     client  c=<binding>,r=<nonce+ours>,p=<proof>         last
//!     server  v=<signature>
//! ```
//!
//! Pure: nonces, salts and verifiers are given. An exchange for a name that is no user's goes the
//! same way to its end with a verifier that nothing matches, so that names cannot be found out.
//! Verifiers are written as PostgreSQL writes them, and read from its dumps:
//! `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism that is bound to the TLS connection by the server's certificate.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Rounds of hashing of a new password: PostgreSQL's.
pub(super) const ITERATIONS: u32 = 4096;
/// Verifiers from elsewhere may ask for so many rounds at most: each log-in by HTTP costs them.
const ITERATIONS_MAX: u32 = 1_000_000;
/// A message of a client that is longer is no message of this exchange.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What a password is verified with. It says nothing of the password that would let one in.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    /// The verifier of a password.
    pub fn of_password(password: &str, salt: &[u8]) -> Verifier {
        Verifier::of_password_in(password, salt, ITERATIONS)
    }

    fn of_password_in(password: &str, salt: &[u8], iterations: u32) -> Verifier {
        // As in PostgreSQL: what is not allowed in a password stands for itself.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let salted = salted_password(prepared.as_bytes(), salt, iterations);
        Verifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(&hmac(&salted, &[b"Client Key"])),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// A verifier that no password has.
    pub(super) fn decoy(secret: &[u8], name: &str) -> Verifier {
        let salt = hmac(secret, &[b"salt", name.as_bytes()]);
        Verifier {
            iterations: ITERATIONS,
            salt: salt[..16].to_vec(),
            stored_key: [0; 32],
            server_key: [0; 32],
        }
    }

    /// Reads what [`text`](Self::text) writes; `None`: it is something else.
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
        let verifier = Verifier {
            iterations: iterations.parse().ok()?,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        };
        let is_usable = (1..=ITERATIONS_MAX).contains(&verifier.iterations)
            && (1..=1024).contains(&verifier.salt.len());
        is_usable.then_some(verifier)
    }

    /// As PostgreSQL writes it.
    pub fn text(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }

    /// Whether it is the verifier of that password. Takes as long for a wrong one.
    pub fn matches(&self, password: &str) -> bool {
        let given = Verifier::of_password_in(password, &self.salt, self.iterations);
        given.stored_key.ct_eq(&self.stored_key).into()
    }
}

/// Why an exchange ended. What the client is told is never which of name and password was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramError {
    /// The proof is not that of the password.
    WrongPassword,
    /// The client does not keep to the protocol.
    Malformed(&'static str),
}

/// The channel that an exchange may be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The connection is not encrypted, or its certificate has no hash to bind to.
    None,
    /// It could be bound (`tls-server-end-point`), but the client chose not to.
    Offered,
    /// It is bound to this hash.
    EndPoint(Vec<u8>),
}

/// One exchange.
pub struct Exchange {
    verifier: Verifier,
    /// Whether there is such a user, with a password that is still good.
    may_succeed: bool,
    binding: Binding,
    nonce: String,
    /// What the client said of bindings, and both first messages.
    gs2_header: String,
    first_messages: String,
}

impl Exchange {
    /// An exchange in which `nonce` (printable, without comma) is our part.
    pub(super) fn new(
        verifier: Verifier,
        may_succeed: bool,
        binding: Binding,
        nonce: &str,
    ) -> Self {
        Exchange {
            verifier,
            may_succeed,
            binding,
            nonce: nonce.to_owned(),
            gs2_header: String::new(),
            first_messages: String::new(),
        }
    }

    /// Takes the client's first message and gives the server's.
    pub fn first(&mut self, message: &[u8]) -> Result<String, ScramError> {
        let message = as_text(message)?;
        let (flag, rest) = message.split_once(',').ok_or(MALFORMED)?;
        let (authorization, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        match (flag, &self.binding) {
            ("n", Binding::None | Binding::Offered) | ("y", Binding::None) => {}
            ("p=tls-server-end-point", Binding::EndPoint(_)) => {}
            ("y", Binding::Offered) => {
                return Err(ScramError::Malformed(
                    "the client supports channel binding but thinks the server does not",
                ))
            }
            _ => return Err(ScramError::Malformed("unexpected channel binding")),
        }
        if !authorization.is_empty() {
            return Err(ScramError::Malformed(
                "the client uses an authorization identity",
            ));
        }
        // The name was given at start-up; what stands here is not looked at, as in PostgreSQL.
        let mut attributes = bare.split(',');
        let name = attributes.next().and_then(|a| a.strip_prefix("n="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        let (Some(_), Some(nonce)) = (name, nonce) else {
            return Err(MALFORMED);
        };
        if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ScramError::Malformed("non-printable characters in nonce"));
        }
        self.nonce = format!("{nonce}{}", self.nonce);
        self.gs2_header = format!("{flag},{authorization},");
        let reply = format!(
            "r={},s={},i={}",
            self.nonce,
            STANDARD.encode(&self.verifier.salt),
            self.verifier.iterations
        );
        self.first_messages = format!("{bare},{reply}");
        Ok(reply)
    }

    /// Takes the client's last message and gives the server's, if the proof is right.
    pub fn last(self, message: &[u8]) -> Result<String, ScramError> {
        let message = as_text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(MALFORMED)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(MALFORMED);
        };
        let mut expected = self.gs2_header.clone().into_bytes();
        if let Binding::EndPoint(hash) = &self.binding {
            expected.extend_from_slice(hash);
        }
        if STANDARD.decode(binding).ok().as_deref() != Some(&expected[..]) {
            return Err(ScramError::Malformed("channel binding check failed"));
        }
        if nonce != self.nonce {
            return Err(ScramError::Malformed("nonce does not match"));
        }
        let proof = STANDARD.decode(proof).ok();
        let proof = proof.and_then(|p| <[u8; 32]>::try_from(p).ok());
        let proof = proof.ok_or(ScramError::Malformed("malformed proof"))?;
        let signed = [
            self.first_messages.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let signature = hmac(&self.verifier.stored_key, &signed);
        let mut client_key = proof;
        for (byte, with) in client_key.iter_mut().zip(signature) {
            *byte ^= with;
        }
        let is_right: bool = sha256(&client_key).ct_eq(&self.verifier.stored_key).into();
        if !is_right || !self.may_succeed {
            return Err(ScramError::WrongPassword);
        }
        let verified = hmac(&self.verifier.server_key, &signed);
        Ok(format!("v={}", STANDARD.encode(verified)))
    }
}

const MALFORMED: ScramError = ScramError::Malformed("malformed message");

fn as_text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(MALFORMED);
    }
    std::str::from_utf8(message).map_err(|_| MALFORMED)
}

/// `Hi` of RFC 5802: PBKDF2 of one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut previous = hmac(password, &[salt, &1u32.to_be_bytes()]);
    let mut result = previous;
    let keyed = keyed(password);
    for _ in 1..iterations {
        let mut mac = keyed.clone();
        mac.update(&previous);
        previous = mac.finalize().into_bytes().into();
        for (byte, with) in result.iter_mut().zip(previous) {
            *byte ^= with;
        }
    }
    result
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

/// HMAC-SHA-256 of the parts, one behind the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    fn of_the_rfc() -> Exchange {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::of_password("pencil", &salt);
        Exchange::new(
            verifier,
            true,
            Binding::None,
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        )
    }

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_exchange_of_the_rfc() {
        let mut exchange = of_the_rfc();
        assert_eq!(
            exchange.first(FIRST).unwrap(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(
            exchange.last(LAST.as_bytes()).unwrap(),
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn what_is_not_right_is_refused() {
        for (last, error) in [
            (LAST.replace("p=dHz", "p=eHz"), ScramError::WrongPassword),
            (
                LAST.replace("c=biws", "c=eSws"),
                ScramError::Malformed("channel binding check failed"),
            ),
            (
                LAST.replace("rOprNG", "rOprNH"),
                ScramError::Malformed("nonce does not match"),
            ),
            (
                LAST.replace("p=dHzb", "p="),
                ScramError::Malformed("malformed proof"),
            ),
            ("c=biws".to_owned(), MALFORMED),
        ] {
            let mut exchange = of_the_rfc();
            exchange.first(FIRST).unwrap();
            assert_eq!(exchange.last(last.as_bytes()), Err(error), "{last}");
        }
        // A password that has expired, or a name that is no user's.
        let mut exchange = of_the_rfc();
        exchange.may_succeed = false;
        exchange.first(FIRST).unwrap();
        assert_eq!(
            exchange.last(LAST.as_bytes()),
            Err(ScramError::WrongPassword)
        );
        for first in [
            "",
            "n,,",
            "n,a=b,n=,r=x",
            "p=tls-unique,,n=,r=x",
            "n,,n=,r=",
            "x,,n=,r=x",
        ] {
            assert!(of_the_rfc().first(first.as_bytes()).is_err(), "{first}");
        }
        // Who thinks that there is no binding where there is one is being deceived.
        let mut exchange = of_the_rfc();
        exchange.binding = Binding::Offered;
        assert!(exchange.first(b"y,,n=,r=x").is_err());
    }

    #[test]
    fn verifiers_are_postgresqls() {
        // Made by PostgreSQL 15 of the password "pencil".
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::of_password("pencil", &salt);
        let text = verifier.text();
        assert_eq!(
            text,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        let read = Verifier::parse(&text).unwrap();
        assert!(read.matches("pencil") && !read.matches("Pencil"));
        for bad in [
            "pencil",
            "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d:wfPL",
            "md53175bce1d3201d16594cebf9d7eb3f9d",
        ] {
            assert!(Verifier::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_prepared() {
        let salt = b"salt";
        // A no-break space is a space; what stringprep forbids stands for itself.
        assert!(Verifier::of_password("a b", salt) == Verifier::of_password("a\u{a0}b", salt));
        assert!(Verifier::of_password("\u{7}", salt) != Verifier::of_password("", salt));
    }
}
