//! Outcomes in, what people and programs read afterwards out.

pub mod github;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod record;
pub mod table;
pub mod timeline;
pub mod trace;
pub mod verdicts;
