//! The base task, and four questions about a digit that the base was not trained for.

use crate::digits::Digit;

/// Outputs of every head; a question with fewer answers leaves the rest unused.
pub const CLASSES: usize = 10;

/// Inputs and labels, ready for the network.
pub struct Rows {
    /// The same number of values for each label.
    pub inputs: Vec<f32>,
    /// Each below `CLASSES`.
    pub labels: Vec<usize>,
}

impl Rows {
    /// The rows at `places`, in that order.
    pub fn select(&self, places: &[usize]) -> Rows {
        let width = self.inputs.len() / self.labels.len();
        let row = |&place: &usize| &self.inputs[place * width..(place + 1) * width];
        Rows {
            inputs: places.iter().flat_map(row).copied().collect(),
            labels: places.iter().map(|&place| self.labels[place]).collect(),
        }
    }
}

/// A question about the digit in an image.
pub struct Task {
    /// Short name, also that of the folder its fine-tune is written to.
    pub name: &'static str,
    /// What is asked, for people.
    pub question: &'static str,
    /// The digits asked about.
    asked: fn(u8) -> bool,
    /// The right answer for a digit, below `CLASSES`.
    answer: fn(u8) -> usize,
}

impl Task {
    /// Inputs and right answers for those of `digits` that are asked about.
    pub fn rows(&self, digits: &[Digit]) -> Rows {
        let asked = || digits.iter().filter(|digit| (self.asked)(digit.value));
        Rows {
            inputs: asked().flat_map(|digit| digit.image).collect(),
            labels: asked().map(|digit| (self.answer)(digit.value)).collect(),
        }
    }
}

/// What the base learns: to tell apart the digits 0 to 4. It never sees 5 to 9.
pub const BASE: Task =
    Task { name: "base", question: "Which digit from 0 to 4 is it?", asked: |digit| digit < 5, answer: usize::from };

/// What the fine-tunes learn, each on all ten digits.
pub const TASKS: [Task; 4] = [
    Task { name: "parity", question: "Is it odd?", asked: any, answer: |digit| usize::from(digit % 2 == 1) },
    Task {
        name: "loops",
        question: "How many closed loops does it have?",
        asked: any,
        answer: |digit| [1, 0, 0, 0, 0, 0, 1, 0, 2, 1][usize::from(digit)],
    },
    Task { name: "large", question: "Is it above 4?", asked: any, answer: |digit| usize::from(digit > 4) },
    Task {
        name: "prime",
        question: "Is it a prime number?",
        asked: any,
        answer: |digit| usize::from(matches!(digit, 2 | 3 | 5 | 7)),
    },
];

/// Every digit is asked about.
fn any(_: u8) -> bool {
    true
}
