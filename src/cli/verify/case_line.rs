//! What became of a case, in one line.

use crate::cli::{CliError, Printer};
use crate::goldens::{CaseReport, Status, TensorReport};

pub(super) fn show(printer: &Printer, case: &CaseReport) -> Result<(), CliError> {
    let share =
        |tensor: &&TensorReport| tensor.max_abs_error / tensor.tolerance.max(f64::MIN_POSITIVE);
    let closest = case
        .tensors
        .iter()
        .filter(|tensor| tensor.tolerance > 0.0)
        .max_by(|a, b| share(a).total_cmp(&share(b)));
    let closest = closest.map_or(String::new(), |tensor| {
        format!(
            ", closest to its tolerance: {} ({:.1e} of {:.1e})",
            tensor.name, tensor.max_abs_error, tensor.tolerance
        )
    });
    let name = &case.name;
    match case.status {
        Status::Pass => printer.line(format_args!(
            "pass     {name}: {} tensors{closest}",
            case.tensors.len()
        )),
        Status::Fail => {
            let first = case.first_difference.as_deref().unwrap_or("(not known)");
            printer.line(format_args!("FAIL     {name}: first difference at {first}"))
        }
        Status::Skipped => printer.line(format_args!(
            "skipped  {name}: {}",
            case.reason.as_deref().unwrap_or_default()
        )),
        Status::Orientation => printer.line(format_args!(
            "no goal  {name}: for orientation only: {}",
            case.first_difference.as_deref().unwrap_or("no difference")
        )),
    }
}
