//! `SELECT` by key, and the key's condition, which UPDATE and DELETE share.

use std::sync::Arc;

use chronos_model::{DataType, Value};

use super::names::Target;
use super::{DirectKind, Operand, Planned, Planner};
use crate::lex::TokenKind;

impl<'a> Planner<'a> {
    /// `SELECT items FROM t [alias] WHERE key [LIMIT n]`
    pub(super) fn select(&mut self) -> Option<Planned> {
        self.cursor.advance();
        // The items mean nothing before the table is known.
        let items = self.cursor.clone();
        self.skip_items()?;
        let target = self.target()?;
        let after_target = std::mem::replace(&mut self.cursor, items);
        let projection = self.projection(&target)?;
        if !self.cursor.is_word("FROM") {
            return None;
        }
        self.cursor = after_target;
        let key = self.key(&target)?;
        let limit = if self.cursor.word("LIMIT") {
            self.limit()?
        } else {
            None
        };
        let kind = DirectKind::Get {
            projection: projection.items,
            key,
            limit,
        };
        Some((Arc::clone(target.table), kind, Some(projection.schema)))
    }

    /// Goes behind the first `FROM`; no item that is understood has one in it.
    fn skip_items(&mut self) -> Option<()> {
        loop {
            let token = self.cursor.peek()?;
            match token.kind {
                TokenKind::Word | TokenKind::QuotedIdent => {}
                TokenKind::Operator | TokenKind::Punct(b',' | b'.') => {}
                _ => return None,
            }
            if self.cursor.word("FROM") {
                return Some(());
            }
            self.cursor.advance();
        }
    }

    /// The count behind `LIMIT`; a constant above 0 says nothing about one row.
    #[allow(clippy::option_option)]
    fn limit(&mut self) -> Option<Option<Operand>> {
        let literal = self.cursor.literal()?;
        match self.integer_operand(&literal, &DataType::Int8)? {
            Operand::Value(Value::Int8(1..)) => Some(None),
            Operand::Value(Value::Int8(0)) => Some(Some(Operand::Value(Value::Int8(0)))),
            Operand::Value(_) => None,
            parameter => Some(Some(parameter)),
        }
    }

    /// `WHERE` and the whole primary key, each column once, in any order and in
    /// any parentheses. Gives the values in key order.
    pub(super) fn key(&mut self, target: &Target<'_>) -> Option<Vec<Operand>> {
        let key = &target.table.primary_key;
        if key.is_empty() || !self.cursor.word("WHERE") {
            return None;
        }
        let mut operands: Vec<Option<Operand>> = vec![None; key.len()];
        let mut depth = 0usize;
        loop {
            while self.cursor.punct(b'(') {
                depth += 1;
            }
            let (column, operand) = self.equality(target)?;
            let slot = key.iter().position(|c| *c == column)?;
            if operands[slot].replace(operand).is_some() {
                return None;
            }
            while depth > 0 && self.cursor.punct(b')') {
                depth -= 1;
            }
            if !self.cursor.word("AND") {
                break;
            }
        }
        if depth > 0 {
            return None;
        }
        operands.into_iter().collect()
    }

    /// `column = value` or `value = column`
    fn equality(&mut self, target: &Target<'_>) -> Option<(usize, Operand)> {
        let is_name = self.cursor.peek().is_some_and(|t| t.is_name());
        let (column, literal) = if is_name {
            let column = self.column(target)?;
            if !self.cursor.operator("=") {
                return None;
            }
            (column, self.cursor.literal()?)
        } else {
            let literal = self.cursor.literal()?;
            if !self.cursor.operator("=") {
                return None;
            }
            (self.column(target)?, literal)
        };
        let data_type = &target.table.columns[column].data_type;
        let operand = self.compared_operand(literal, data_type)?;
        Some((column, operand))
    }
}
