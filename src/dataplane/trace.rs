//! A walk told step by step, for `explain`. Costs one branch per step when nobody listens.

/// One thing that was found or decided on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The step of the contract's section 3.
    pub number: u8,
    /// What the step looks at, in a word or two.
    pub name: &'static str,
    /// What was found, for a person.
    pub text: String,
}

/// Where a walk is written down, if anywhere.
#[derive(Debug, Default)]
pub struct Trace {
    steps: Option<Vec<Step>>,
}

impl Trace {
    /// Nobody listens.
    pub fn off() -> Trace {
        Trace { steps: None }
    }

    /// Everything is written down.
    pub fn on() -> Trace {
        Trace { steps: Some(Vec::new()) }
    }

    /// Notes a step; the text is made only when somebody listens.
    #[inline]
    pub fn note(&mut self, number: u8, name: &'static str, text: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step { number, name, text: text() });
        }
    }

    /// What was noted.
    pub fn steps(&self) -> &[Step] {
        self.steps.as_deref().unwrap_or_default()
    }
}
