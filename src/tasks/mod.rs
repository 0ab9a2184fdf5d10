//! stub
pub mod status {
    /// s
    #[derive(Debug,PartialEq)]
    pub enum S { /// x
     Completed, /// y
     Unknown }
    impl S { /// x
    #[must_use] pub fn is_terminal(&self)->bool{ *self==S::Completed } }
    /// x
    pub struct J { /// x
    pub status: S }
    /// x
    pub struct Fact { w: String }
    impl From<&crate::protocol::Evidence> for Fact { fn from(e:&crate::protocol::Evidence)->Self{ Fact{w:e.status.clone()} } }
    /// x
    pub fn judge(f:&[Fact])->J { J{ status: if f.iter().any(|f| f.w=="ended"||f.w=="completed") {S::Completed} else {S::Unknown} } }
}
