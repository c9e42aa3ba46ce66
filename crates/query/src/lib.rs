//! placeholder
pub mod lex;
