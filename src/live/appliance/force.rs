//! Putting in force: a configuration that is read anew, and the same one with something else that circuits have learned.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::bounded;
use tracing::warn;

use super::super::handle::Reloaded;
use super::super::worker::{Order, lock, nanos};
use super::{Appliance, IN_FORCE, check_ports, news};
use crate::compile::names::Names;
use crate::compile::recompile;
use crate::dataplane::change;
use crate::model::{self, Files, Model, Port};

/// Starts the thread that puts in force what circuits learn, for as long as the appliance is there.
pub(super) fn follow_circuits_of(appliance: &Arc<Appliance>) -> io::Result<()> {
    let (rings, of) = (appliance.circuits.rings().clone(), Arc::downgrade(appliance));
    let follow = move || {
        while let Ok(()) = rings.recv() {
            let Some(appliance) = of.upgrade() else { return };
            if appliance.circuits.learn() {
                appliance.follow_circuits();
            }
        }
    };
    appliance.circuits.keep(std::thread::Builder::new().name("circuits".to_owned()).spawn(follow)?);
    Ok(())
}

impl Appliance {
    /// Reads, compiles and puts in force. Everybody else goes on meanwhile: `control` is taken to look, to swap, and to
    /// let ports follow.
    pub(super) fn try_reload(&self) -> Result<Reloaded, Vec<String>> {
        let begin = Instant::now();
        let faults = |faults: Vec<model::Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut files = Files::default();
        let base = model::load_files(&self.settings.configuration, &mut files);
        *lock(&self.files) = files;
        let base = base.map_err(faults)?;
        // Only a reload makes this another one.
        let before = lock(&self.control).base.clone();
        model::may_follow(&before, &base)?;
        self.circuits.may_follow(&before, &base)?;
        // A device that the port has already may be away; one that a change names is more likely misspelt.
        let has_it =
            |port: &Port| before.ports.iter().any(|p| p.name == port.name && p.device == port.device);
        check_ports(&base, &self.kernel.devices().snapshot().1, has_it)
            .map_err(super::NoStart::into_sentences)?;
        let mut warnings = base.warnings.len();
        for sentence in self.circuits.follow(&base) {
            warn!("{sentence}");
            warnings += 1;
        }
        let ports = base.ports.clone();
        let Some(generation) = self.put_in_force(&mut lock(&self.names), Arc::new(base)) else {
            return Err(vec!["the appliance stops".to_owned()]);
        };
        let mut control = lock(&self.control);
        control.ports.want(&ports);
        self.follow_ports(&mut control);
        // Ports that cannot be as they are wanted are in the log.
        warnings += control.failed.len();
        Ok(Reloaded { generation, took: begin.elapsed(), warnings })
    }

    /// To be called when circuits have learned something, or lost it: puts that in force.
    pub(super) fn follow_circuits(&self) {
        let mut names = lock(&self.names);
        // Not before: a reload may have put another one in force meanwhile.
        let base = lock(&self.control).base.clone();
        self.put_in_force(&mut names, base);
    }

    /// Puts a configuration in force with what circuits have learned; the generation that is in force, or none if the
    /// appliance stops. Ports stay as they are.
    fn put_in_force(&self, names: &mut Names, base: Arc<Model>) -> Option<u32> {
        // Only who has the names changes these.
        let (before, mut occupancy, old) = {
            let control = lock(&self.control);
            if control.stopped {
                return None;
            }
            (control.model.clone(), control.occupancy.clone(), control.program.clone())
        };
        let model = self.circuits.in_force(&base, &before);
        let program = Arc::new(recompile(&old, &before, &model, names));
        let affected = change::affected(&old, &program);
        if occupancy.is_too_small(&program) {
            occupancy = Arc::new(occupancy.successor(&program));
        }
        let generation = program.generation;
        let links = self.circuits.ends(&program);
        let (done, in_force) = bounded(self.workers.len());
        {
            let control = &mut *lock(&self.control);
            // New ports get their numbers. Ports follow the old configuration until every worker has left its program.
            control.ports.want(&model.ports);
            let now = nanos(self.begun.elapsed());
            let policers = Arc::new(control.policers.successor(&old, &program, now));
            let mut news = news(&program, &occupancy, &policers, &links, affected, &control.ports);
            control.policers = policers;
            news.done = Some(done);
            control.ports.want(&before.ports);
            control.former.push(std::mem::replace(&mut control.program, program));
            control.occupancy = occupancy;
            (control.base, control.model) = (base, Arc::new(model));
            self.tell_all(|| Order::Adopt(news.clone()));
        }
        let until = Instant::now() + IN_FORCE;
        let late = self.workers.iter().filter(|_| in_force.recv_deadline(until).is_err()).count();
        if late > 0 {
            warn!("{late} workers have not put the configuration in force in {} s", IN_FORCE.as_secs());
        }
        Some(generation)
    }
}
