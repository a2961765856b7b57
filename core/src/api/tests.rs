//! Requests, head by head.

use super::*;
use crate::config::Config;
use crate::record::Image;
use crate::time::Now;
use alloc::vec::Vec;

#[test]
fn a_path_is_of_one_kind_and_gives_its_name() {
    let found = |method, path| route(method, path).ok().map(|(route, name)| (route.what, name));
    assert_eq!(found("GET", "/v1/runs"), Some((What::Runs, None)));
    assert_eq!(found("GET", "/v1/runs/r%3A1"), Some((What::Run, Some("r:1".into()))));
    assert_eq!(found("POST", "/v1/runs/r/cancel"), Some((What::Cancel, Some("r".into()))));
    for path in ["/v1/runs/", "/v1/runs/r/", "/v1/runs//cancel", "/v1/runs/%ff", "/v1", "/v1/runs/r/s/t"] {
        assert_eq!(found("GET", path), None, "{path}");
    }
}

#[test]
fn a_request_that_the_store_does_not_answer_is_given_up_in_time() {
    let (mut now, mut out) = (Now::default(), Vec::new());
    let mut core = Core::open(Config::default(), [0; 32], Image::default(), now, &mut out);
    let conn = ConnId(1);
    core.handle(now, crate::input::Input::Opened { conn, peer: [127, 0, 0, 1].into() }, &mut out);
    let authorization = Some("Bearer t");
    let head = Head { method: "GET", path: "/v1/runs", authorization, ..Head::default() };
    core.handle(now, crate::input::Input::Request { conn, head }, &mut out);
    let claims = Claims { sub: "alice".into(), exp: u64::MAX / 1000, ..Claims::default() };
    core.handle(now, crate::input::Input::Verified { conn, outcome: Ok(claims) }, &mut out);
    assert!(matches!(out[..], [Effect::Verify { .. }, Effect::Load { .. }]), "{out:?}");
    out.clear();
    (now.mono, _) = core.deadline().expect("it is waited for");
    core.handle(now, crate::input::Input::Timer, &mut out);
    let [Effect::Respond { response, .. }, Effect::Note(_)] = &out[..] else { panic!("{out:?}") };
    assert_eq!((response.status, response.retry_after_secs), (503, Some(1)));
}
