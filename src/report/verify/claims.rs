//! What can be said of a pack, proved or not: stable words for programs, a sentence for people.

use serde::{Serialize, Serializer};

use crate::checkpoint::BaseCheck;

/// What a claim is about. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topic {
    /// The bytes are those that were written.
    Integrity,
    /// Everything decodes and has the content id.
    Content,
    /// This is the pack with the expected id.
    Identity,
    /// Who made the pack.
    Origin,
    /// The base is the pack's, all of it.
    Base,
    /// The tensors of the base that the pack touches are the right ones.
    TouchedTensors,
    /// A model is what the pack makes.
    Outcome,
    /// What the model does.
    Harmlessness,
}

impl Topic {
    /// Every topic, in the order in which claims are listed.
    pub const ALL: [Topic; 8] = [
        Topic::Integrity,
        Topic::Identity,
        Topic::Origin,
        Topic::TouchedTensors,
        Topic::Base,
        Topic::Outcome,
        Topic::Content,
        Topic::Harmlessness,
    ];

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Topic::Integrity => "integrity",
            Topic::Content => "content",
            Topic::Identity => "identity",
            Topic::Origin => "origin",
            Topic::Base => "base",
            Topic::TouchedTensors => "touched-tensors",
            Topic::Outcome => "outcome",
            Topic::Harmlessness => "harmlessness",
        }
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

/// One claim: what it is about, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Claim {
    /// What it is about.
    pub claim: Topic,
    /// What is known, or how to find out.
    pub text: &'static str,
}

/// How an outcome was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With what the packs make of the base.
    Computed,
    /// With the digest that the pack recorded.
    Recorded,
}

/// What is known of a pack whose bytes are whole.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Whether everything was decoded.
    pub decoded: bool,
    /// Whether the id is the expected one.
    pub expected: bool,
    /// How much of the base was read.
    pub base: Option<BaseCheck>,
    /// How a model was compared.
    pub outcome: Option<Outcome>,
}

impl Facts {
    /// What is proved, and what is not.
    pub fn claims(&self) -> (Vec<Claim>, Vec<Claim>) {
        let all = Topic::ALL.into_iter().filter_map(|claim| Some((claim, self.of(claim)?)));
        let (proved, not): (Vec<_>, Vec<_>) = all.partition(|(_, (proved, _))| *proved);
        let list = |rows: Vec<(Topic, (bool, &'static str))>| {
            rows.into_iter().map(|(claim, (_, text))| Claim { claim, text }).collect()
        };
        (list(proved), list(not))
    }

    /// Whether a claim is proved, and the sentence; none where there is nothing to say.
    fn of(&self, topic: Topic) -> Option<(bool, &'static str)> {
        match (topic, self.base) {
            (Topic::Integrity, _) => Some((true, "every byte is under a digest that matches")),
            (Topic::Content, _) if self.decoded => Some((true, "everything decodes and matches the content id")),
            (Topic::Content, _) => {
                Some((false, "the pack is coded against its base; give the base (--base) to decode it"))
            }
            (Topic::Identity, _) => self.expected.then_some((
                true,
                "this is the pack with the expected id; its origin is as trustworthy as where you got the id",
            )),
            (Topic::Origin, _) => {
                (!self.expected).then_some((false, "compare the id with one from a source you trust (--expect-id)"))
            }
            (Topic::Base, None) => Some((false, "no base was given (--base)")),
            (Topic::Base, Some(BaseCheck::Touched)) => {
                Some((false, "only the touched tensors were read (--base-check full reads all)"))
            }
            (Topic::Base, Some(BaseCheck::Full)) => Some((true, "this is the pack's base, every byte of it")),
            (Topic::Base, Some(BaseCheck::Cached)) => {
                Some((true, "this is the pack's base; unchanged files were not read again"))
            }
            (Topic::TouchedTensors, Some(BaseCheck::Touched)) => {
                Some((true, "the base has the tensors that the pack was made against"))
            }
            (Topic::TouchedTensors, _) => None,
            (Topic::Outcome, _) => self.outcome.map(|outcome| match outcome {
                Outcome::Computed => (true, "the model is what these packs make of this base"),
                Outcome::Recorded => (true, "the touched tensors of the model are those that the pack recorded"),
            }),
            (Topic::Harmlessness, _) => Some((false, "a verified pack can still hold a bad model")),
        }
    }
}

/// Claims of several packs as sentences: what holds for all of them, and what does not.
pub(super) fn sentences(packs: &[(&[Claim], &[Claim])]) -> (Vec<String>, Vec<String>) {
    let find = |list: &[Claim], topic: Topic| list.iter().find(|c| c.claim == topic).map(|c| c.text);
    let (mut proved, mut not_proved) = (Vec::new(), Vec::new());
    let decoded = packs.iter().all(|(yes, _)| find(yes, Topic::Content).is_some());
    for topic in Topic::ALL {
        let word = topic.word();
        let doubt = packs.iter().find_map(|(_, no)| find(no, topic));
        match (doubt, packs.first().and_then(|(yes, _)| find(yes, topic))) {
            (Some(text), _) => not_proved.push(format!("{word}: {text}")),
            (None, Some(text)) if topic == Topic::Integrity && decoded => {
                proved.push(format!("{word}: {text}, and everything decodes"));
            }
            // Said with the integrity.
            (None, Some(_)) if topic == Topic::Content => {}
            (None, Some(text)) => proved.push(format!("{word}: {text}")),
            (None, None) => {}
        }
    }
    (proved, not_proved)
}
