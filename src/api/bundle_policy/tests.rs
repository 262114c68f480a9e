#[test]
fn p() {
    for (n, y) in crate::api::crds().unwrap() {
        println!("## {n}\n{y}");
    }
}
