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

/// A request with a good token of this scope: what is answered.
fn asked(core: &mut Core, conn: ConnId, path: &str, scope: &str) -> Vec<Effect> {
    let (now, mut out) = (Now::default(), Vec::new());
    core.handle(now, crate::input::Input::Opened { conn, peer: [127, 0, 0, 1].into() }, &mut out);
    let head = Head { method: "GET", path, authorization: Some("Bearer t"), ..Head::default() };
    core.handle(now, crate::input::Input::Request { conn, head }, &mut out);
    let scope = Some(scope.into());
    let claims = Claims { sub: "olga".into(), exp: u64::MAX / 1000, scope, ..Claims::default() };
    core.handle(now, crate::input::Input::Verified { conn, outcome: Ok(claims) }, &mut out);
    out
}

#[test]
fn while_the_disk_is_full_an_alert_that_is_over_has_no_words() {
    use crate::input::Input;
    let (now, mut out) = (Now::default(), Vec::new());
    let mut core = Core::open(Config::default(), [0; 32], Image::default(), now, &mut out);
    let most = Config::default().store.memory;
    let status = |core: &mut Core, conn| {
        let out = asked(core, ConnId(conn), "/v1/status", "operate");
        let Some(Effect::Respond { response, .. }) = out.get(1) else { panic!("{out:?}") };
        let Content::Json(json) = &response.content else { panic!("{out:?}") };
        json.clone()
    };
    core.handle(now, Input::Memory { used: most }, &mut out);
    assert!(status(&mut core, 1).contains("\"message\":\"1024 of 1024 MiB of memory are in use\""));
    let append = |effect: &Effect| if let Effect::Append { id, .. } = effect { Some(*id) } else { None };
    let from = out.iter().filter_map(append).min().unwrap();
    core.handle(now, Input::AppendFailed { from }, &mut out);
    core.handle(now, Input::Memory { used: 1 }, &mut out);
    let over = status(&mut core, 2);
    assert!(over.contains("\"store\":\"full\"") && over.contains("\"alert\":\"memory_high\""), "{over}");
    assert!(!over.contains("\"message\""), "{over}");
}
