//! Outcomes in, what people and programs read afterwards out.

pub mod junit;
pub mod record;
pub mod table;
