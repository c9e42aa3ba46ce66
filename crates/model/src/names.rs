//! Names of relations in schemas.
//!
//! The catalog knows a relation by one name: in the schema `public` its own, elsewhere that of the
//! schema, a separator, and its own. Whatever looks relations up, or writes SQL for itself, takes
//! that as a name like others; only what people read or write tells the parts apart.
//!
//! ```text
//!   public.t  ->  t          s.t  ->  s<1F>t
//! ```

use crate::Catalog;

/// The schema that every database has.
pub const PUBLIC_SCHEMA: &str = "public";

/// Stands between a schema's name and a relation's: ASCII's unit separator. Who writes it in a
/// name says the same as with the schema before.
pub const SCHEMA_SEPARATOR: char = '\u{1f}';

/// The catalog's name of a relation in a schema.
pub fn name_in(schema: &str, name: &str) -> String {
    match schema {
        PUBLIC_SCHEMA => name.to_owned(),
        schema => format!("{schema}{SCHEMA_SEPARATOR}{name}"),
    }
}

/// The schema of a relation, and its own name there.
pub fn name_parts(name: &str) -> (&str, &str) {
    name.split_once(SCHEMA_SEPARATOR)
        .unwrap_or((PUBLIC_SCHEMA, name))
}

/// A relation's own name.
pub fn own_name(name: &str) -> &str {
    name_parts(name).1
}

/// The name with its schema, if that is not `public`, as people read it.
pub fn shown_name(name: &str) -> String {
    match name.split_once(SCHEMA_SEPARATOR) {
        Some((schema, own)) => format!("{schema}.{own}"),
        None => name.to_owned(),
    }
}

/// The name that another has in the schema of a relation.
pub fn name_beside(relation: &str, name: &str) -> String {
    name_in(name_parts(relation).0, own_name(name))
}

/// A message that may name relations, with their own names.
pub fn plain_message(message: String) -> String {
    if !message.contains(SCHEMA_SEPARATOR) {
        return message;
    }
    let mut plain = String::with_capacity(message.len());
    let mut parts = message.split(SCHEMA_SEPARATOR).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            plain.push_str(part);
            break;
        }
        // What stands before a separator ends with the schema's name.
        let is_outside = |c: char| c == '"' || c == '\'' || c == '(' || c.is_whitespace();
        let end = part.rfind(is_outside).map_or(0, |at| at + 1);
        plain.push_str(&part[..end]);
    }
    plain
}

impl Catalog {
    /// Whether there is a schema of that name that users' relations may be in.
    pub fn has_schema(&self, name: &str) -> bool {
        name == PUBLIC_SCHEMA || self.schemas.contains_key(name)
    }

    /// Whether the schema of a relation's name is there.
    pub fn has_schema_of(&self, relation: &str) -> bool {
        self.has_schema(name_parts(relation).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_two_parts() {
        assert_eq!(name_in("public", "t"), "t");
        let name = name_in("s", "t");
        assert_eq!(name_parts(&name), ("s", "t"));
        assert_eq!(name_parts("s.t"), ("public", "s.t"));
        assert_eq!(shown_name(&name), "s.t");
        assert_eq!(name_beside(&name, "i"), name_in("s", "i"));
        assert_eq!(name_beside("t", &name), "t");
        let message = format!("relation \"{name}\" is not {name}, {}", name_in("x", "y"));
        assert_eq!(plain_message(message), "relation \"t\" is not t, y");
    }
}
