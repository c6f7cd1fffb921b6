//! What the modules of PAM ask, as C asks it: the one function that is called from there.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_int, c_void},
    ptr,
};

use super::{Answer, Question, interface::*};
use crate::Secret;

/// PAM's modules ask here. Statements to the user go nowhere: they tell a stranger about the account.
///
/// Modules are not careful: some give no place for responses because they only state something, some
/// give messages without a text.
pub(super) unsafe extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return PAM_CONV_ERR };
    if count == 0 || count > MOST_MESSAGES || messages.is_null() || data.is_null() {
        return PAM_CONV_ERR;
    }
    // SAFETY: it is the data of `Pam::start`, alive until the transaction has ended, and nobody else's
    // while PAM runs: the transaction is borrowed for that.
    let answer = unsafe { &mut *data.cast::<Answer<'_>>() };
    let mut answers = Vec::with_capacity(count);
    for position in 0..count {
        // SAFETY: Linux-PAM's modules give an array of `count` pointers, each null or to a message whose
        // text is null or ends with NUL.
        let (style, text) = unsafe {
            let message = *messages.add(position);
            if message.is_null() {
                return PAM_CONV_ERR;
            }
            let text = (*message).text;
            let text = if text.is_null() { c"" } else { CStr::from_ptr(text) };
            ((*message).style, text.to_string_lossy())
        };
        let question = |echo| Question { text: text.clone().into_owned(), echo };
        let given = match style {
            PAM_PROMPT_ECHO_OFF => answer(question(false)),
            PAM_PROMPT_ECHO_ON => answer(question(true)),
            PAM_ERROR_MSG | PAM_TEXT_INFO => {
                answers.push(None);
                continue;
            }
            _ => return PAM_CONV_ERR,
        };
        // An answer with a NUL byte would be another one to PAM, which reads up to there.
        match given.filter(|given| !given.expose().contains(&0)) {
            Some(given) => answers.push(Some(given)),
            None => return PAM_CONV_ERR,
        }
    }
    if responses.is_null() {
        return if answers.iter().all(Option::is_none) { 0 } else { PAM_CONV_ERR };
    }
    // SAFETY: it is not null, so it is where the module wants to read one pointer.
    unsafe { hand_over(&answers, responses) }
}

/// Puts the answers where PAM frees them: each a block of `malloc`, in an array of `calloc`.
///
/// # Safety
/// `responses` may be written.
unsafe fn hand_over(answers: &[Option<Secret>], responses: *mut *mut Response) -> c_int {
    // SAFETY: the array has room for all, and its zeros are null pointers. Each block has room for its
    // answer and the NUL. What was allocated is freed if the rest cannot be.
    unsafe {
        let array: *mut Response = libc::calloc(answers.len(), size_of::<Response>()).cast();
        if array.is_null() {
            return PAM_BUF_ERR;
        }
        for (position, answer) in answers.iter().enumerate() {
            let Some(answer) = answer else { continue };
            let bytes = answer.expose();
            let block: *mut u8 = libc::malloc(bytes.len() + 1).cast();
            if block.is_null() {
                for written in 0..position {
                    libc::free((*array.add(written)).text.cast());
                }
                libc::free(array.cast());
                return PAM_BUF_ERR;
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), block, bytes.len());
            *block.add(bytes.len()) = 0;
            (*array.add(position)).text = block.cast();
        }
        *responses = array;
    }
    0
}
