//! Measures evaluator processes and their jobs by what they reply.

use crate::{
    eval::Reply,
    timings::{Mark, Timings, What},
};

/// The times of one evaluator process after another, which take jobs from the same queue.
pub struct Clock<'a> {
    timings: &'a Timings,
    process: Option<Mark>,
    job: Option<Mark>,
    /// True once the job has found an evaluator that had read the flake.
    loaded: bool,
}

impl<'a> Clock<'a> {
    pub fn new(timings: &'a Timings) -> Self {
        Self { timings, process: None, job: None, loaded: false }
    }

    pub fn take(&mut self, reply: &Reply) {
        match reply {
            Reply::Began(id) => {
                let job = self.timings.begin(What::Evaluation, id.to_string(), self.process);
                (self.job, self.loaded) = (Some(job), false);
            }
            // A job that outgrew what is left of an evaluator goes on in another.
            Reply::Started => {
                let process = self.timings.begin(What::Evaluator, "", None);
                self.job.into_iter().for_each(|job| self.timings.moves(job, process));
                self.process = Some(process);
            }
            // What was before is the time that the evaluator took to read the flake.
            Reply::Loaded => {
                let job = self.job.filter(|_| !std::mem::replace(&mut self.loaded, true));
                job.into_iter().for_each(|job| self.timings.begin_again(job));
            }
            Reply::Done(_, derivation, ..) => {
                let key = derivation.drv.to_string();
                self.job.into_iter().for_each(|job| self.timings.tell(job, |span| span.key = key.clone()));
                self.settled(true);
            }
            Reply::Failed(..) | Reply::Outgrew(..) => self.settled(false),
            Reply::Stopped(bytes) => {
                if let Some(process) = self.process.take() {
                    self.timings.tell(process, |span| span.memory = Some(*bytes));
                    self.timings.end(process, true);
                }
            }
            Reply::Note(_) => {}
        }
    }

    fn settled(&mut self, ok: bool) {
        if let Some(job) = self.job.take() {
            self.timings.end(job, ok);
        }
    }
}
