//! stub
#![allow(missing_docs)]
use std::sync::Arc; use chronos_model::*; use arrow_schema::SchemaRef;
pub struct DirectPlan{pub table:Arc<TableSchema>,pub parameters:Vec<DataType>,pub columns:Option<SchemaRef>}
pub enum BoundDirect{Get{key:Key,projection:Vec<usize>},Insert{rows:Vec<Vec<Value>>,on_conflict_skip:bool,returning:Option<Vec<usize>>},Update{key:Key,assignments:Vec<(usize,Value)>,returning:Option<Vec<usize>>},Delete{key:Key,returning:Option<Vec<usize>>}}
#[derive(Debug,thiserror::Error)] #[error("x")] pub struct BindError;
impl BindError{pub fn sqlstate(&self)->SqlState{SqlState::INTERNAL} pub fn detail(&self)->Option<String>{None}}
impl DirectPlan{pub fn bind(&self,_:&[Value])->Result<BoundDirect,BindError>{Err(BindError)}}
pub fn plan(_:&str,_:&Catalog)->Option<DirectPlan>{None}
