//! Layers as columns, kinds of module as rows: the arrangement behind every heatmap.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::inspect::report::{Inspection, ModuleReport};

/// Kept units out of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Units kept.
    pub kept: u64,
    /// Units of the touched tensors.
    pub units: u64,
}

/// One layer, or a run of neighbouring ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The first layer.
    pub first: u32,
    /// The last layer.
    pub last: u32,
}

/// One kind of module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridRow {
    /// The kind, with what stands before the layer number where that differs within the pack.
    pub label: String,
    /// One cell a column; `None` where the pack touches nothing.
    pub cells: Vec<Option<Share>>,
    /// The whole row.
    pub total: Share,
}

/// Densities by layer and kind of module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// The layers, ascending.
    pub columns: Vec<Column>,
    /// The kinds of module, by name.
    pub rows: Vec<GridRow>,
    /// Kinds of module for which there was no room: those with the fewest units.
    pub rows_left_out: usize,
    /// All cells together.
    pub total: Share,
}

impl Share {
    /// Kept ÷ units.
    pub fn density(self) -> Option<f64> {
        (self.units > 0).then(|| self.kept as f64 / self.units as f64)
    }

    fn add(&mut self, module: &ModuleReport) {
        self.kept += module.kept;
        self.units += module.units;
    }
}

impl Inspection {
    /// The tensors that belong to a layer, in at most so many columns and rows.
    pub fn grid(&self, most_columns: usize, most_rows: usize) -> Grid {
        let layered = || self.modules.iter().filter_map(|m| Some((m.layer?, m)));
        let columns = columns(layered().map(|(layer, _)| layer).collect(), most_columns);
        let prefixes: BTreeSet<&str> = layered().map(|(_, m)| m.prefix.as_str()).collect();
        let mut rows: BTreeMap<(&str, &str), GridRow> = BTreeMap::new();
        let mut total = Share::default();
        for (layer, module) in layered() {
            let row = rows.entry((&module.prefix, &module.module)).or_insert_with(|| GridRow {
                label: label(module, prefixes.len() > 1),
                cells: vec![None; columns.len()],
                total: Share::default(),
            });
            let column = columns.partition_point(|c| c.last < layer);
            if let Some(cell) = row.cells.get_mut(column) {
                cell.get_or_insert_default().add(module);
            }
            row.total.add(module);
            total.add(module);
        }
        let all = rows.len();
        let rows = largest(rows.into_values().collect(), most_rows);
        Grid { rows_left_out: all - rows.len(), columns, rows, total }
    }

    /// The tensors that belong to no layer, those with the most units first.
    pub fn outside_layers(&self) -> Vec<&ModuleReport> {
        let mut modules: Vec<_> = self.modules.iter().filter(|m| m.layer.is_none()).collect();
        modules.sort_by_key(|m| std::cmp::Reverse(m.units));
        modules
    }
}

impl Grid {
    /// How much denser than the whole grid a share is: the factor between the odds, in octaves, from −3 to 3.
    pub fn heat(&self, share: Share) -> Option<f64> {
        let (here, whole) = (share.density()?, self.total.density()?);
        let octaves = (here / (1.0 - here)).log2() - (whole / (1.0 - whole)).log2();
        // Where all is kept, or nothing is, there is no difference to show.
        Some(if octaves.is_nan() { 0.0 } else { octaves.clamp(-3.0, 3.0) })
    }

    /// The density that has this heat.
    pub fn density_at(&self, heat: f64) -> Option<f64> {
        let whole = self.total.density()?;
        let odds = whole / (1.0 - whole) * heat.exp2();
        Some(if odds.is_finite() { odds / (1.0 + odds) } else { 1.0 })
    }
}

/// Neighbouring layers share a column where there are more layers than columns.
fn columns(layers: BTreeSet<u32>, most: usize) -> Vec<Column> {
    let layers: Vec<u32> = layers.into_iter().collect();
    let each = layers.len().div_ceil(most.max(1)).max(1);
    let column = |run: &[u32]| Some(Column { first: *run.first()?, last: *run.last()? });
    layers.chunks(each).filter_map(column).collect()
}

fn label(module: &ModuleReport, with_prefix: bool) -> String {
    match (with_prefix || module.module.is_empty(), module.prefix.is_empty()) {
        (false, _) | (true, true) => module.module.clone(),
        (true, false) if module.module.is_empty() => format!("{}.*", module.prefix),
        (true, false) => format!("{}.*.{}", module.prefix, module.module),
    }
}

/// The rows with the most units, in their order.
fn largest(rows: Vec<GridRow>, most: usize) -> Vec<GridRow> {
    let mut by_units: Vec<usize> = (0..rows.len()).collect();
    by_units.sort_by_key(|i| rows.get(*i).map(|row| std::cmp::Reverse(row.total.units)));
    let chosen: BTreeSet<usize> = by_units.into_iter().take(most).collect();
    rows.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_share_columns_where_there_are_too_many() {
        let found = columns((0..10).collect(), 4);
        assert_eq!(found.iter().map(|c| (c.first, c.last)).collect::<Vec<_>>(), [(0, 2), (3, 5), (6, 8), (9, 9)]);
        assert_eq!(columns([7, 4_000_000_000].into(), 80).len(), 2);
        assert!(columns(BTreeSet::new(), 4).is_empty());
    }

    #[test]
    fn heat_and_density_belong_together() {
        let total = Share { kept: 50, units: 1000 };
        let grid = Grid { columns: Vec::new(), rows: Vec::new(), rows_left_out: 0, total };
        assert_eq!(grid.heat(total), Some(0.0));
        assert_eq!(grid.heat(Share { kept: 1, units: 1 }), Some(3.0));
        assert_eq!(grid.heat(Share { kept: 0, units: 1 }), Some(-3.0));
        assert_eq!(grid.heat(Share::default()), None);
        assert!((grid.density_at(0.0).unwrap() - 0.05).abs() < 1e-12);
        let full = Grid { total: Share { kept: 9, units: 9 }, ..grid };
        assert_eq!((full.heat(full.total), full.density_at(-1.0)), (Some(0.0), Some(1.0)));
    }
}
