//! What the name of a tensor says about its place in the model.

/// A name, cut at its layer number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// What stands before the layer number.
    pub prefix: String,
    /// The first part of the name that is a number.
    pub layer: Option<u32>,
    /// What stands after it, with `*` for further numbers, such as those of experts; the whole name where there is no layer.
    pub module: String,
}

impl Place {
    /// Reads `model.layers.12.self_attn.q_proj.weight` as (`model.layers`, 12, `self_attn.q_proj.weight`).
    pub fn of(name: &str) -> Self {
        let parts: Vec<&str> = name.split('.').collect();
        let found = parts.iter().enumerate().find_map(|(i, part)| Some((i, number(part)?)));
        let Some((i, layer)) = found else {
            return Place { prefix: String::new(), layer: None, module: name.to_string() };
        };
        let (before, after) = parts.split_at(i);
        let module: Vec<&str> = after.iter().skip(1).map(|p| if number(p).is_some() { "*" } else { p }).collect();
        Place { prefix: before.join("."), layer: Some(layer), module: module.join(".") }
    }
}

fn number(part: &str) -> Option<u32> {
    if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_known_models_are_read() {
        let rows = [
            ("model.layers.12.self_attn.q_proj.weight", "model.layers", Some(12), "self_attn.q_proj.weight"),
            ("encoder.layer.3.attention.self.query.weight", "encoder.layer", Some(3), "attention.self.query.weight"),
            ("transformer.h.7.mlp.c_fc.weight", "transformer.h", Some(7), "mlp.c_fc.weight"),
            ("layers.0.weight", "layers", Some(0), "weight"),
            ("0.bias", "", Some(0), "bias"),
            ("model.layers.3.mlp.experts.17.w1.weight", "model.layers", Some(3), "mlp.experts.*.w1.weight"),
            (
                "decoder.block.4.layer.1.EncDecAttention.q.weight",
                "decoder.block",
                Some(4),
                "layer.*.EncDecAttention.q.weight",
            ),
            ("model.embed_tokens.weight", "", None, "model.embed_tokens.weight"),
            ("conv2d.w1x", "", None, "conv2d.w1x"),
            ("a.99999999999.b", "", None, "a.99999999999.b"),
            ("a..b", "", None, "a..b"),
            ("stack.7", "stack", Some(7), ""),
        ];
        for (name, prefix, layer, module) in rows {
            assert_eq!(Place::of(name), Place { prefix: prefix.into(), layer, module: module.into() }, "{name}");
        }
    }
}
