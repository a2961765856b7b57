//! The model beside a core that runs in the loop.

use super::{Judgement, Model};
use runcast::pump::Witness;
use runcast_core::Core;
use runcast_core::effect::Effect;
use runcast_core::input::Input;
use runcast_core::time::Now;
use std::cell::RefCell;
use std::rc::Rc;

/// A model that looks on. The first thing that is wrong is left in the `judgement`.
#[derive(Debug)]
pub struct Watching {
    model: Model,
    judgement: Rc<RefCell<Judgement>>,
}

impl Watching {
    /// Begins with what the opening of the core has caused.
    pub fn begin(model: Model, opening: &[Effect], core: &Core, judgement: &Rc<RefCell<Judgement>>) -> Self {
        let mut watching = Self { model, judgement: judgement.clone() };
        watching.after(core, opening);
        watching
    }

    fn note(&self, judgement: Judgement) {
        let mut first = self.judgement.borrow_mut();
        if first.is_ok() {
            *first = judgement;
        }
    }
}

impl Witness for Watching {
    fn before(&mut self, _core: &Core, _now: Now, input: &Input<'_>) {
        let judgement = self.model.hears(input);
        self.note(judgement);
    }

    fn after(&mut self, core: &Core, effects: &[Effect]) {
        let judgement = self.model.judge(effects, core);
        self.note(judgement);
    }
}
