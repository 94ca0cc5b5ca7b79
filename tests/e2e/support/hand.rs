//! Pushes made by hand, call by call, of small paths that are made up: to stop and go on between any two
//! calls, and to make many of them fast. Server and S3 are real.

use std::collections::BTreeMap;

use niks3_core::{
    debug_info::BuildId,
    hash::{BodyChecksum, ChecksumAlgorithm, DerivationHash, FileHash, NarHash},
    realisation::{OutputId, OutputName},
    store_path::StorePath,
    wire::{
        ObjectSpec, PlanRequest, PlanResponse, PlannedPath, PlannedRealisation, StoredObject,
        StoredRequest, StoredResponse, UploadId, UrlAnswer, UrlsRequest, UrlsResponse,
    },
};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::parts::{TOKEN, http};

/// A path that is made up.
#[derive(Clone, Debug)]
pub struct MadePath {
    pub path: StorePath,
    pub content: Vec<u8>,
    /// Indexes of paths before it, or its own.
    pub references: Vec<usize>,
    /// The name of the derivation whose output it is, if it has realisations and a debug file.
    pub realises: Option<String>,
}

/// Paths, references before what refers to them.
#[derive(Clone, Debug, Default)]
pub struct Graph(pub Vec<MadePath>);

impl Graph {
    /// Adds a path; its hash is made of the name. Answers its index.
    pub fn add(&mut self, name: &str, content: &str, references: &[usize]) -> usize {
        let hash = NarHash::new(Sha256::digest(name).into()).nix32();
        let path = format!("{}-{name}", &hash[..32]).parse().unwrap();
        let content = content.as_bytes().to_vec();
        let references = references.to_vec();
        self.0.push(MadePath { path, content, references, realises: None });
        self.0.len() - 1
    }

    /// Each refers to the one before it; the last is the top.
    pub fn chain(names: &[&str]) -> Self {
        let mut graph = Self::default();
        for name in names {
            let before: Vec<usize> = graph.0.len().checked_sub(1).into_iter().collect();
            graph.add(name, &format!("contents of {name}"), &before);
        }
        graph
    }

    /// The closure of `roots`, as a graph of its own; they are its last ones or among them.
    pub fn closure(&self, roots: &[usize]) -> (Self, Vec<usize>) {
        let mut wanted = vec![false; self.0.len()];
        let mut todo = roots.to_vec();
        while let Some(index) = todo.pop() {
            if !std::mem::replace(&mut wanted[index], true) {
                todo.extend(self.0[index].references.iter().filter(|to| **to != index));
            }
        }
        let kept: Vec<usize> = (0..self.0.len()).filter(|index| wanted[*index]).collect();
        let new: BTreeMap<usize, usize> =
            kept.iter().enumerate().map(|(n, old)| (*old, n)).collect();
        let paths = kept.iter().map(|old| {
            let mut path = self.0[*old].clone();
            path.references = path.references.iter().map(|to| new[to]).collect();
            path
        });
        (Self(paths.collect()), roots.iter().map(|root| new[root]).collect())
    }

    /// The key of a path's narinfo.
    pub fn narinfo(&self, index: usize) -> String {
        format!("{}.narinfo", self.0[index].path.hash())
    }
}

/// A call that was not answered as hoped.
#[derive(Clone, Debug)]
pub struct Refused {
    /// 0: not at all.
    pub status: u16,
    pub text: String,
}

/// A push that was planned.
pub struct HandPush {
    server: String,
    graph: Graph,
    roots: Vec<u32>,
    /// `None`: everything was there, and is committed.
    pub upload: Option<UploadId>,
    /// Indexes of the paths whose NARs are missing.
    pub missing: Vec<u32>,
}

impl HandPush {
    /// Plans the closure of `roots`.
    pub async fn plan(server: &str, graph: &Graph, roots: &[usize]) -> Result<Self, Refused> {
        let (graph, roots) = graph.closure(roots);
        let roots: Vec<u32> = roots.iter().map(|root| *root as u32).collect();
        let mut push =
            Self { server: server.to_owned(), graph, roots, upload: None, missing: Vec::new() };
        push.replan().await?;
        Ok(push)
    }

    /// Plans again, as a client does that is told that the cache has changed.
    pub async fn replan(&mut self) -> Result<(), Refused> {
        let paths = self.graph.0.iter().map(|path| PlannedPath {
            path: path.path.clone(),
            nar_hash: nar_hash(path),
            nar_size: path.content.len() as u64,
            references: path.references.iter().map(|to| *to as u32).collect(),
            deriver: None,
            ca: None,
            signatures: Vec::new(),
            log: false,
            realisations: realisations(path),
            debug_info: debug_info(path),
        });
        let plan = PlanRequest {
            store_dir: "/nix/store".to_owned(),
            roots: self.roots.clone(),
            paths: paths.collect(),
            dry_run: false,
            upstream_keys: Vec::new(),
        };
        let planned: PlanResponse = self.json("uploads", &plan).await?;
        self.upload = planned.upload.map(|upload| upload.id);
        self.missing = planned.nars;
        Ok(())
    }

    /// URLs of what is missing, with what to send there.
    pub async fn urls(&self) -> Result<Vec<(u32, UrlAnswer)>, Refused> {
        self.urls_of(&self.missing).await
    }

    async fn urls_of(&self, missing: &[u32]) -> Result<Vec<(u32, UrlAnswer)>, Refused> {
        let objects = missing.iter().map(|index| {
            let path = &self.graph.0[*index as usize];
            let (bytes, body) = (body(path).len() as u64, body(path));
            let checksum = BodyChecksum::of(ChecksumAlgorithm::Md5, &body);
            ObjectSpec::Nar { nar_hash: nar_hash(path), bytes, checksum }
        });
        let request = UrlsRequest { objects: objects.collect() };
        let urls: UrlsResponse = self.json(&self.call("urls"), &request).await?;
        Ok(missing.iter().copied().zip(urls.objects).collect())
    }

    /// PUTs one of them. Answers what to report; nothing where another push has sent it.
    pub async fn put(
        &self,
        (index, answer): &(u32, UrlAnswer),
    ) -> Result<Option<StoredObject>, Refused> {
        let UrlAnswer::Put { key, url, headers } = answer else { return Ok(None) };
        let body = body(&self.graph.0[*index as usize]);
        let file_hash = Some(FileHash::new(Sha256::digest(&body).into()));
        let mut put = http().put(&url.0).body(body);
        for (name, value) in headers {
            put = put.header(name, value);
        }
        answered(put).await?;
        Ok(Some(StoredObject { key: key.clone(), file_hash, parts: Vec::new() }))
    }

    /// Reports what was sent. Answers what the server does not find.
    pub async fn stored(&self, objects: Vec<StoredObject>) -> Result<StoredResponse, Refused> {
        self.json(&self.call("stored"), &StoredRequest { objects, no_listing: Vec::new() }).await
    }

    /// Sends and reports all that is missing.
    pub async fn send(&self) -> Result<(), Refused> {
        let mut stored = Vec::new();
        // Few at once: tests have URLs that live for three seconds, and busy machines.
        for few in self.missing.chunks(8) {
            for answer in self.urls_of(few).await? {
                stored.extend(self.put(&answer).await?);
            }
        }
        let missing = self.stored(stored).await?.missing;
        assert!(missing.is_empty(), "sent and not found: {missing:?}");
        Ok(())
    }

    /// Commits; calls until it is done.
    pub async fn commit(&self) -> Result<(), Refused> {
        if self.upload.is_none() {
            return Ok(());
        }
        while self.ask(Method::POST, &self.call("commit"), Vec::new()).await?.0 == 202 {}
        Ok(())
    }

    /// Gives it up.
    pub async fn abandon(&self) -> Result<(), Refused> {
        let path = format!("uploads/{}", self.upload.as_ref().unwrap());
        self.ask(Method::DELETE, &path, Vec::new()).await.map(drop)
    }

    /// All of it.
    pub async fn push(server: &str, graph: &Graph, roots: &[usize]) -> Result<(), Refused> {
        let mut push = Self::plan(server, graph, roots).await?;
        // Three plans, as the client.
        for _ in 0..2 {
            match push.finish().await {
                Err(refused) if refused.status == 409 => push.replan().await?,
                other => return other,
            }
        }
        push.finish().await
    }

    async fn finish(&self) -> Result<(), Refused> {
        if self.upload.is_some() {
            self.send().await?;
        }
        self.commit().await
    }

    fn call(&self, call: &str) -> String {
        format!("uploads/{}/{call}", self.upload.as_ref().unwrap())
    }

    async fn json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Refused> {
        let body = serde_json::to_vec(body).unwrap();
        let (_, text) = self.ask(Method::POST, path, body).await?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, String), Refused> {
        let url = format!("{}/api/v1/{path}", self.server);
        answered(http().request(method, url).bearer_auth(TOKEN).body(body)).await
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Result<(u16, String), Refused> {
    let lost = |error: reqwest::Error| Refused { status: 0, text: error.to_string() };
    let answer = request.send().await.map_err(lost)?;
    let status = answer.status();
    let text = answer.text().await.map_err(lost)?;
    let code = status.as_u16();
    if status.is_success() { Ok((code, text)) } else { Err(Refused { status: code, text }) }
}

/// In both layouts.
fn realisations(path: &MadePath) -> Vec<PlannedRealisation> {
    let Some(name) = &path.realises else { return Vec::new() };
    let derivation = Sha256::digest(format!("{name}.drv"));
    let hash = NarHash::new(derivation.into()).nix32();
    let output: OutputName = "out".parse().unwrap();
    let ids = [
        OutputId::Hashed(DerivationHash::new(derivation.into()), output.clone()),
        OutputId::Derived(format!("{}-{name}.drv", &hash[..32]).parse().unwrap(), output),
    ];
    let realisation =
        |id| PlannedRealisation { id, dependencies: BTreeMap::new(), signatures: Vec::new() };
    ids.into_iter().map(realisation).collect()
}

/// Paths with equal contents have the same debug file.
fn debug_info(path: &MadePath) -> Vec<BuildId> {
    let digest = Sha256::digest(&path.content);
    let id: String = digest[..20].iter().map(|byte| format!("{byte:02x}")).collect();
    path.realises.iter().map(|_| id.parse().unwrap()).collect()
}

fn nar_hash(path: &MadePath) -> NarHash {
    NarHash::new(Sha256::digest(&path.content).into())
}

fn body(path: &MadePath) -> Vec<u8> {
    zstd::encode_all(path.content.as_slice(), 1).unwrap()
}
