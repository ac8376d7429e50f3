//! Outcomes in, what people and programs read afterwards out.

pub mod github;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod record;
pub mod table;
pub mod timings;
pub mod verdicts;
