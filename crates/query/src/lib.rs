//! placeholder
pub mod lex;
pub mod temporal;
