//! How far a run says that it is (PROTOCOL §4 `step_started`, `step_completed`, `run_progress`), for whoever
//! looks later: the step under way, and the newest percentage.

use crate::wire::event::{Kind, Percent, WorkerEvent};
use crate::wire::json::{Fields, Object};
use alloc::borrow::Cow;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The longest name of a step that is kept, in bytes; of a longer one only the event tells.
const STEP_BYTES: usize = 128;

/// How far an attempt is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    step: Option<Word>,
    percent: Option<Word>,
}

/// What an event said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    /// The event's place.
    seq: u64,
    text: String,
}

impl Progress {
    /// Whether an event of this kind says something of it.
    pub(crate) const fn is_told_by(kind: Kind) -> bool {
        matches!(kind, Kind::StepStarted | Kind::StepCompleted | Kind::RunProgress)
    }

    /// An event that tells of it has been written at `seq`.
    pub(crate) fn take(&mut self, event: &WorkerEvent<'_>, seq: u64) {
        let is_step = event.kind != Kind::RunProgress;
        let Ok(data) = Fields::parse(event.data) else { return };
        if is_step {
            let step = data.required::<Cow<'_, str>>("step").ok();
            let step = step.filter(|step| event.kind == Kind::StepStarted && step.len() <= STEP_BYTES);
            self.step = step.map(|step| Word { seq, text: step.into_owned() });
        } else {
            let percent = data.required::<Percent<'_>>("percent").ok();
            self.percent = percent.map(|Percent(text)| Word { seq, text: text.into() });
        }
    }

    /// What of it is durable, in a stream that is up to `head`.
    pub(crate) fn describe(&self, run: Object, head: u64) -> Object {
        let shown = |word: &Option<Word>| {
            let word = word.as_ref().filter(|word| word.seq <= head)?;
            Some(word.text.clone())
        };
        run.maybe_str("step", shown(&self.step).as_deref()).maybe_raw("percent", shown(&self.percent))
    }
}
