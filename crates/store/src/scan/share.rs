//! Shares the stretches of a scan out to partitions, and cuts them where they are too long.

use std::collections::VecDeque;
use std::ops::Bound;

use super::plan::Item;
use super::KeyRange;

/// Shares out items, in order, to at most `n` partitions of about as many rows.
pub(super) fn share_out(items: Vec<Item>, n: usize) -> Vec<Vec<Item>> {
    let total: usize = items.iter().map(Item::rows).sum();
    let share = total.div_ceil(n).max(1);
    let mut partitions = vec![Vec::new()];
    let mut filled = 0;
    let mut rest: VecDeque<Item> = items.into();
    while let Some(item) = rest.pop_front() {
        let room = share.saturating_sub(filled);
        if room == 0 && partitions.len() < n {
            partitions.push(Vec::new());
            filled = 0;
            rest.push_front(item);
            continue;
        }
        let last = partitions.len() == n;
        let (head, tail) = if last || item.rows() <= room {
            (item, None)
        } else {
            split(item, room)
        };
        if let Some(tail) = tail {
            rest.push_front(tail);
            // The head fills what was left, even if it could not be cut exactly.
            filled = share;
        } else {
            filled += head.rows();
        }
        if let Some(partition) = partitions.last_mut() {
            partition.push(head);
        }
    }
    partitions
}

/// Cuts off the end of a merge, with `wanted` rows or few more, if it can be cut.
pub(super) fn split_last(item: Item, wanted: usize) -> (Option<Item>, Item) {
    let Item::Merge {
        sources,
        range,
        rows,
        mut splits,
    } = item
    else {
        return (None, item);
    };
    // Of those that leave enough behind them the last one.
    let enough = splits.partition_point(|(_, before)| rows - before >= wanted);
    let after = splits.split_off(enough.max(1).min(splits.len()));
    let Some((key, before)) = splits.pop() else {
        let item = Item::Merge {
            sources,
            range,
            rows,
            splits,
        };
        return (None, item);
    };
    let last = Item::Merge {
        sources: sources.clone(),
        range: KeyRange {
            lower: Bound::Included(key.clone()),
            upper: range.upper,
        },
        rows: rows - before,
        splits: after.into_iter().map(|(k, b)| (k, b - before)).collect(),
    };
    let first = Item::Merge {
        sources,
        range: KeyRange {
            lower: range.lower,
            upper: Bound::Excluded(key),
        },
        rows: before,
        splits,
    };
    (Some(first), last)
}

/// Cuts an item after about `rows` rows, if it can be cut.
pub(super) fn split(item: Item, wanted: usize) -> (Item, Option<Item>) {
    match item {
        Item::Pass {
            source,
            part,
            rows,
            passing,
        } => {
            let item = |part, rows| Item::Pass {
                source,
                part,
                rows,
                passing,
            };
            let parts = part.len();
            let head = (parts * wanted / rows.max(1)).clamp(1, parts);
            if head == parts {
                return (item(part, rows), None);
            }
            let head_rows = rows * head / parts;
            let middle = part.start + head;
            let tail = item(middle..part.end, rows - head_rows);
            (item(part.start..middle, head_rows), Some(tail))
        }
        Item::Merge {
            sources,
            range,
            rows,
            mut splits,
        } => {
            let at = splits.partition_point(|(_, before)| *before < wanted);
            if at >= splits.len() {
                let item = Item::Merge {
                    sources,
                    range,
                    rows,
                    splits,
                };
                return (item, None);
            }
            let tail_splits = splits.split_off(at + 1);
            let Some((key, before)) = splits.pop() else {
                return (
                    Item::Merge {
                        sources,
                        range,
                        rows,
                        splits,
                    },
                    None,
                );
            };
            let tail = Item::Merge {
                sources: sources.clone(),
                range: KeyRange {
                    lower: Bound::Included(key.clone()),
                    upper: range.upper,
                },
                rows: rows - before,
                splits: tail_splits
                    .into_iter()
                    .map(|(k, b)| (k, b - before))
                    .collect(),
            };
            let head = Item::Merge {
                sources,
                range: KeyRange {
                    lower: range.lower,
                    upper: Bound::Excluded(key),
                },
                rows: before,
                splits,
            };
            (head, Some(tail))
        }
    }
}
