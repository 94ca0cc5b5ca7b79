//! Narinfos, listings, logs and realisations in both encodings, read by each Nix through what may stand before a
//! bucket: a real nginx that caches, strips headers, compresses, and a hop that decodes.

use crate::{
    readers::{ROOTS, Reading},
    support::{Nginx, Nix, NixStore, ServerOptions, TestCache, decoding_hop, fixture, http},
};

/// As a store that has no Content-Encoding, such as Backblaze B2, answers.
const STRIPS: &str = "proxy_hide_header Content-Encoding;";

/// Encodes what has no encoding yet, NARs as well.
const COMPRESSES: &str = "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;";

/// And says whether it had it.
const CACHES: &str = "proxy_cache niks3; add_header X-Cache $upstream_cache_status;";

/// What each Nix has built, pushed to a cache with this encoding.
async fn cache_of(store: &NixStore, roots: &[String], encoding: &str) -> TestCache {
    let cache =
        TestCache::start_with(ServerOptions::args(&["--metadata-encoding", encoding])).await;
    let mut args = vec!["--index-debug-info".to_owned()];
    args.extend(roots.iter().cloned());
    cache.push(store, &args).await.ok();
    cache
}

impl Reading<'_> {
    /// Everything that a reader may ask is answered.
    async fn assert_all(&self) {
        self.assert_nothing_is_built().await;
        self.assert_logs().await;
        self.assert_questions().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_encoding_is_read_through_what_it_is_for() {
    for nix in Nix::all() {
        let store = NixStore::new(nix);
        let roots = store.build(&fixture(), &ROOTS).await;
        for encoding in ["none", "zstd"] {
            let cache = cache_of(&store, &roots, encoding).await;
            let origin = cache.bucket.reader();
            let hop = decoding_hop(origin).await;
            let before: &[(&str, &str)] = match encoding {
                "none" => &[(origin, STRIPS), (origin, COMPRESSES)],
                // Twice the same: the second time from its cache.
                _ => &[(origin, CACHES), (hop.as_str(), "")],
            };
            for (origin_or_hop, settings) in before {
                let nginx = Nginx::before(origin_or_hop, settings).await;
                let url = nginx.url(origin);
                let what = format!("nix {}, {encoding}, {origin_or_hop} {settings}", nix.version);
                let reading = Reading { cache: &cache, url, store: &store, roots: &roots, what };
                reading.assert_all().await;
                if *settings == CACHES {
                    reading.assert_all().await;
                    assert_cached(&cache, &reading.url).await;
                }
            }
        }
    }
}

/// What has been read is in nginx's cache as Cache-Control says, encoded as in the bucket.
async fn assert_cached(cache: &TestCache, url: &str) {
    for (suffix, encoding, hit) in [
        (".narinfo", Some("zstd"), true),
        (".nar.zst", None, true),
        ("nix-cache-info", None, false),
    ] {
        let key = cache.bucket.keys_ending(suffix).await.remove(0);
        // Each Nix keeps what it has asked for a while; we ask twice.
        let mut answer = http().get(format!("{url}/{key}")).send().await.unwrap();
        answer = match answer.status().is_success() {
            true => http().get(format!("{url}/{key}")).send().await.unwrap(),
            false => panic!("{key}: {answer:?}"),
        };
        let header = |name| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
        assert_eq!(header("x-cache").as_deref() == Some("HIT"), hit, "{key}: {answer:?}");
        assert_eq!(header("content-encoding").as_deref(), encoding, "{key}");
    }
}

/// So `none` is for those stores: docs/operations.md says which.
#[tokio::test(flavor = "multi_thread")]
async fn zstd_cannot_be_read_where_the_header_is_stripped() {
    for nix in Nix::all() {
        let store = NixStore::new(nix);
        let roots = store.build(&fixture(), &["-A", "ca"]).await;
        let cache = cache_of(&store, &roots, "zstd").await;
        let nginx = Nginx::before(cache.bucket.reader(), STRIPS).await;
        let reader = NixStore::new(nix);
        let read = reader.substitute(&nginx.url(cache.bucket.reader()), &roots).await;
        assert_ne!(read.code, Some(0), "nix {} decodes by itself: {read:?}", nix.version);
        // The same narinfos with their header.
        reader.substitute(cache.bucket.reader(), &roots).await.ok();
    }
}
