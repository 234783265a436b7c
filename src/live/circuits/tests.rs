//! The control side of links as a whole, without devices.

use super::*;

fn circuits() -> Arc<Circuits> {
    Arc::new(Circuits::new(Wake::new().unwrap()).unwrap().0)
}

#[test]
fn whoever_looks_after_threads_does_not_wait_for_a_change_of_links() {
    let circuits = circuits();
    let _changing = lock(&circuits.running);
    let (looks, looked) = crossbeam_channel::bounded(1);
    let other = circuits.clone();
    std::thread::spawn(move || looks.send(other.ended()));
    assert_eq!(looked.recv_timeout(Duration::from_secs(10)), Ok(None));
}
