//! The API's JSON, pinned: old clients meet new servers and the other way round.
//!
//! A change that makes one of these fail breaks somebody. What is added gets a default, and a file
//! of its own here; the files that are here stay readable.

#![allow(clippy::unwrap_used)]

use std::{fmt::Debug, path::Path};

use niks3_core::wire::{
    Closure, ClosuresResponse, CollectRequest, CollectState, CollectStatus, Collection,
    CommitProgress, ErrorBody, Pin, PinRequest, PinsResponse, PlanRequest, PlanResponse,
    StoredRequest, StoredResponse, UrlsRequest, UrlsResponse, VerifyRequest, VerifyResponse,
};
use serde::{Serialize, de::DeserializeOwned};

/// The file is read, and what was read is written as the same JSON.
fn pinned<T: Serialize + DeserializeOwned + Debug>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let value: T = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
    let pinned: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), pinned, "{name}");
    value
}

#[test]
fn every_body_has_the_json_that_was_released() {
    let plan: PlanRequest = pinned("plan-request.json");
    assert_eq!(plan.paths[1].references, [0, 1]);
    pinned::<PlanResponse>("plan-response.json");
    pinned::<UrlsRequest>("urls-request.json");
    pinned::<UrlsResponse>("urls-response.json");
    pinned::<StoredRequest>("stored-request.json");
    pinned::<StoredResponse>("stored-response.json");
    pinned::<UrlsRequest>("multipart-urls-request.json");
    pinned::<UrlsResponse>("multipart-urls-response.json");
    pinned::<StoredRequest>("multipart-stored-request.json");
    pinned::<VerifyRequest>("verify-request.json");
    pinned::<VerifyResponse>("verify-response.json");
    pinned::<CommitProgress>("commit-progress.json");
    pinned::<ErrorBody>("error.json");
    pinned::<CollectRequest>("collect-request.json");
    pinned::<CollectRequest>("collect-request-dry-run.json");
    pinned::<Collection>("collection.json");
    pinned::<CollectStatus>("collect-status.json");
    pinned::<CollectStatus>("collect-status-dry-run.json");
    pinned::<PinRequest>("pin-request.json");
    pinned::<Pin>("pin.json");
    pinned::<PinsResponse>("pins-response.json");
    pinned::<Closure>("closure.json");
    pinned::<ClosuresResponse>("closures-response.json");
}

#[test]
fn every_state_and_phase_of_a_collection_has_its_name() {
    let run = pinned::<serde_json::Value>("collection.json");
    for state in ["running", "interrupted", "finished", "failed"] {
        for phase in ["failed-uploads", "old-closures", "condemn", "delete"] {
            let mut run = run.clone();
            run["state"] = state.into();
            run["progress"]["phase"] = phase.replace('-', "_").into();
            let read: Collection = serde_json::from_value(run.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), run);
        }
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    let bare = r#"{"path": "26xbg1ndr7hbcncrlf9nhx5is2b25d13-hello", "nar_size": 1,
        "nar_hash": "sha256:04s1df66g871sr0qdrkbgm5qzwq5gqzajlax6x6z9k53hx3x9j1h"}"#;
    let plan = format!(r#"{{"store_dir": "/nix/store", "roots": [0], "paths": [{bare}]}}"#);
    let plan: PlanRequest = serde_json::from_str(&plan).unwrap();
    assert!(plan.paths[0].references.is_empty() && plan.paths[0].signatures.is_empty());
    let answer: PlanResponse = serde_json::from_str("{}").unwrap();
    assert_eq!(answer, PlanResponse::default());
    let upload = r#"{"upload": {"id": "0123456789abcdfghijklmnp", "expires_at": 1}}"#;
    assert!(serde_json::from_str::<PlanResponse>(upload).unwrap().upload.is_some());
    assert!(serde_json::from_str::<StoredRequest>("{}").unwrap().objects.is_empty());
    let request = r#"{"older_than": 1, "failed_uploads_older_than": 2}"#;
    let run = format!(
        r#"{{"number": 1, "parameters": {request}, "started_at": 3, "state": "finished",
            "progress": {{}}}}"#
    );
    let run: Collection = serde_json::from_str(&run).unwrap();
    assert!(run.state == CollectState::Finished && !run.parameters.force && run.error.is_none());
    let status = r#"{"cache": {"objects": 0, "bytes": 0}}"#;
    assert_eq!(serde_json::from_str::<CollectStatus>(status).unwrap(), CollectStatus::default());
}

#[test]
fn a_presigned_url_is_not_shown() {
    let urls: UrlsResponse = pinned("urls-response.json");
    assert!(!format!("{urls:?}").contains("X-Amz-Signature"), "{urls:?}");
}
