//! A body that does what the directives allow.

use super::*;

pub fn thinker() -> ModuleShape {
    ModuleShape {
        module: Module::Thinker,
        layers: (0..48).collect(),
        experts: 128,
        k_trained: 8,
        norm_topk_prob: true,
        expert_bytes: 1000,
        smaller: Vec::new(),
    }
}

pub fn talker() -> ModuleShape {
    ModuleShape {
        module: Module::Talker,
        layers: (0..20).collect(),
        k_trained: 6,
        ..thinker()
    }
}

pub fn config() -> MindConfig {
    MindConfig {
        modules: vec![thinker()],
        pool_bytes: POOL,
        ..MindConfig::default()
    }
}

pub const POOL: u64 = 1_000_000;

/// One tick of an input. `drive` comes as surprise and conflict at once, so that it can reach 0.9.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub request: bool,
    pub salience: f32,
    pub urgency: f32,
    pub threat: bool,
    pub outside: bool,
    pub level: f64,
    pub episodes: u32,
    pub load: f64,
    pub io_load: f64,
    pub ticks: u32,
}

pub const IDLE: Input = Input {
    request: false,
    salience: 0.0,
    urgency: 0.0,
    threat: false,
    outside: false,
    level: 1.0,
    episodes: 0,
    load: 0.0,
    io_load: 0.0,
    ticks: 1,
};

/// What a body would report that does `load` of what the last directives allow.
pub fn assess(input: &Input, last: Option<&Directives>, tick: Tick) -> Assess {
    let shape = thinker();
    let spent = match last {
        Some(last) if last.may_step => {
            let tokens = f64::from(input.ticks);
            let units = f64::from(last.modules[0].k) / f64::from(shape.k_trained);
            let dearest = units * shape.exact_token_bytes() as f64;
            let cap = last.modules[0]
                .miss_bytes_per_token
                .map_or(dearest, |cap| dearest.min(cap as f64));
            Spent {
                compute_units: input.load * units * tokens,
                miss_bytes: (input.io_load * cap * tokens) as u64,
            }
        }
        _ => Spent::default(),
    };
    let s = input.salience;
    let salience = Salience {
        surprise: s,
        novelty: s,
        arousal: s,
        conflict: s,
        reward: 0.5,
    };
    Assess {
        perceiving: Vec::new(),
        tick,
        ticks: input.ticks,
        report: SalienceReport {
            salience,
            urgency: input.urgency,
            threat: f32::from(u8::from(input.threat)),
            ..SalienceReport::default()
        },
        open_requests: u32::from(input.request),
        quiet: !input.outside && !input.request,
        outside_input: input.outside,
        unfinished: false,
        spent,
        pool_bytes: POOL,
        unreclaimable_bytes: 0,
        levels: vec![input.level],
        unconsolidated_episodes: input.episodes,
        spoken_drive: None,
    }
}

/// A body that does what it may, tick after tick.
pub struct World {
    pub controller: Controller,
    pub last: Option<Directives>,
    pub tick: Tick,
}

impl World {
    pub fn new() -> Self {
        Self {
            controller: Controller::new(&config()),
            last: None,
            tick: 0,
        }
    }

    pub fn step(&mut self, input: &Input) -> Directives {
        let mut input = *input;
        if let Some(most) = self.last.as_ref().and_then(|last| last.tokens_max) {
            input.ticks = input.ticks.min(most).max(1);
        }
        self.tick += u64::from(input.ticks);
        let directives = self
            .controller
            .step(&assess(&input, self.last.as_ref(), self.tick));
        self.last = Some(directives.clone());
        directives
    }

    pub fn run(&mut self, input: &Input, steps: u32) -> Vec<Transition> {
        (0..steps)
            .filter_map(|_| self.step(input).transition)
            .collect()
    }

    /// Runs until the state changes; fails after `steps`.
    pub fn until(&mut self, input: &Input, steps: u32) -> (State, Cause) {
        for _ in 0..steps {
            if let Some(change) = self.step(input).transition {
                return (change.to, change.cause);
            }
        }
        panic!("still {:?} after {steps} steps", self.controller.state());
    }
}
