//! `adapter_config.json`: what kind of adapter it is, and the numbers that belong to it. [ADP-1]

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Escaped, Result};
use crate::files::open_regular;
use crate::json::{Members, Object};
use crate::limits::Limits;

/// Bytes of a configuration.
const MOST: u64 = 1 << 20;

/// What an adapter's configuration says.
pub(super) enum Config {
    Lora(Lora),
    Shira,
}

/// How the matrices of a LoRA are put together.
pub(super) struct Lora {
    rank: u64,
    alpha: f64,
    ranks: Vec<(String, f64)>,
    alphas: Vec<(String, f64)>,
    /// Scales are α / √r, not α / r.
    stabilized: bool,
    /// Weights are stored with one row an input, where the shape leaves that open.
    pub transposed: bool,
}

#[derive(Deserialize)]
struct Raw {
    peft_type: String,
    r: Option<u64>,
    lora_alpha: Option<f64>,
    rank_pattern: Option<Members<f64>>,
    alpha_pattern: Option<Members<f64>>,
    use_rslora: Option<bool>,
    fan_in_fan_out: Option<bool>,
    init_lora_weights: Option<Value>,
    use_dora: Option<Value>,
    use_qalora: Option<Value>,
    lora_bias: Option<Value>,
    layer_replication: Option<Value>,
    target_parameters: Option<Value>,
    trainable_token_indices: Option<Value>,
    alora_invocation_tokens: Option<Value>,
    arrow_config: Option<Value>,
    kasa_config: Option<Value>,
    monteclora_config: Option<Value>,
    use_bdlora: Option<Value>,
}

impl Config {
    /// Reads a configuration.
    pub fn read(path: &Path) -> Result<Self> {
        let mut json = Vec::new();
        let file = open_regular(path)?;
        file.take(MOST + 1).read_to_end(&mut json).map_err(|e| Error::io(path, e))?;
        Limits::check("adapter configuration size in bytes", json.len() as u64, MOST)?;
        // What the parser says may quote the file.
        let Object(raw): Object<Raw> =
            serde_json::from_slice(&json).map_err(|e| bad(Escaped(&e.to_string()).to_string()))?;
        match raw.peft_type.as_str() {
            "LORA" => raw.lora().map(Config::Lora),
            "SHIRA" => Ok(Config::Shira),
            other => Err(Error::Refused(format!(
                "an adapter of type \"{}\" is not read, only LORA and SHIRA; merge it into its base with PEFT and give the \
                 merged model",
                Escaped(other)
            ))),
        }
    }
}

fn bad(detail: String) -> Error {
    Error::malformed("ADP-1", "adapter configuration", detail)
}

impl Raw {
    fn lora(self) -> Result<Lora> {
        self.check_meaning()?;
        let rank = self.r.filter(|r| *r > 0).ok_or_else(|| bad("has no r that is a positive integer".into()))?;
        let alpha = self.lora_alpha.ok_or_else(|| bad("has no lora_alpha".into()))?;
        let lora = Lora {
            rank,
            alpha,
            ranks: self.rank_pattern.map_or(Vec::new(), |n| n.0),
            alphas: self.alpha_pattern.map_or(Vec::new(), |n| n.0),
            stabilized: self.use_rslora.unwrap_or(false),
            transposed: self.fan_in_fan_out.unwrap_or(false),
        };
        let patterns = lora.ranks.iter().chain(&lora.alphas).map(|(pattern, _)| pattern);
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if let Some(odd) = patterns.into_iter().find(|p| !p.strip_prefix('^').unwrap_or(p).chars().all(plain)) {
            return Err(Error::Refused(format!(
                "the pattern \"{}\" is a regular expression, and only names of modules are read; write it out module by module",
                Escaped(odd)
            )));
        }
        Ok(lora)
    }

    /// What would make the fine-tuned model anything but base + scale × B A is refused.
    fn check_meaning(&self) -> Result<()> {
        let merge = "merge it into its base with PEFT and give the merged model";
        let set = |value: &Option<Value>| match value {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            Some(_) => true,
        };
        let fields = [
            ("use_dora", &self.use_dora, "scales the columns of the sum (DoRA)"),
            ("use_qalora", &self.use_qalora, "pools the inputs"),
            ("lora_bias", &self.lora_bias, "adds to biases"),
            ("layer_replication", &self.layer_replication, "repeats layers of the base"),
            ("target_parameters", &self.target_parameters, "changes parameters that are no module's weight"),
            ("trainable_token_indices", &self.trainable_token_indices, "replaces rows of an embedding"),
            ("arrow_config", &self.arrow_config, "chooses among adapters for each token"),
            ("kasa_config", &self.kasa_config, "has singular values besides its matrices"),
            ("monteclora_config", &self.monteclora_config, "samples its matrices"),
            ("use_bdlora", &self.use_bdlora, "has matrices of blocks"),
        ];
        if let Some((field, _, what)) = fields.iter().find(|(_, value, _)| set(value)) {
            return Err(Error::Refused(format!("the adapter {what} ({field}), which is not read; {merge}")));
        }
        if set(&self.alora_invocation_tokens) {
            let why = "acts from certain tokens on only (alora_invocation_tokens), which no change of the weights does";
            return Err(Error::Refused(format!("the adapter {why}; keep serving it as an adapter")));
        }
        match &self.init_lora_weights {
            None | Some(Value::Null | Value::Bool(_)) => Ok(()),
            Some(Value::String(how)) if ["gaussian", "eva", "orthogonal"].contains(&how.as_str()) => Ok(()),
            Some(how) => Err(Error::Refused(format!(
                "the adapter was started with init_lora_weights {}, which changes the base too; save it converted to a plain LoRA \
                 (path_initial_model_for_weight_conversion), or {merge}",
                Escaped(&how.to_string())
            ))),
        }
    }
}

impl Lora {
    /// The rank that a module's matrices must have.
    pub fn rank(&self, module: &str) -> Result<u64> {
        let Some(rank) = of_module(&self.ranks, module) else { return Ok(self.rank) };
        let whole = rank.fract() == 0.0 && (1.0..=u32::MAX.into()).contains(&rank);
        let detail = || bad(format!("the rank of \"{}\" is {rank}, must be a positive integer", Escaped(module)));
        whole.then_some(rank as u64).ok_or_else(detail)
    }

    /// α / r or α / √r, in f64, rounded to f32. [ADP-4]
    pub fn scale(&self, module: &str, rank: u64) -> Result<f32> {
        let alpha = of_module(&self.alphas, module).unwrap_or(self.alpha);
        let rank = rank as f64;
        let scale = (alpha / if self.stabilized { rank.sqrt() } else { rank }) as f32;
        let detail = || bad(format!("alpha {alpha:e} gives \"{}\" a scale that no f32 holds", Escaped(module)));
        scale.is_finite().then_some(scale).ok_or_else(detail)
    }
}

/// The number of the first pattern that a module's name ends with, at a dot; behind `^` the whole name.
fn of_module(numbers: &[(String, f64)], module: &str) -> Option<f64> {
    let fits = |pattern: &str| match pattern.strip_prefix('^') {
        Some(whole) => whole == module,
        None => module.strip_suffix(pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    };
    numbers.iter().find(|(pattern, _)| fits(pattern)).map(|(_, number)| *number)
}
