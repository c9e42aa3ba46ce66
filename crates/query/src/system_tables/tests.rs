//! System tables, made from a small catalog.
