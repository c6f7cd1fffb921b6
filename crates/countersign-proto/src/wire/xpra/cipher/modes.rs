//! The modes of AES as streams that run across packets (SP 800-38A; SP 800-38D for where GCM begins).

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{
        Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt as _, BlockModeEncrypt as _,
        BlockSizeUser, InnerIvInit as _, KeyInit, StreamCipher, StreamCipherCoreWrapper, consts::U16,
    },
};
use ctr::{
    CtrCore,
    flavors::{Ctr32BE, Ctr128BE},
};
use ghash::{GHash, universal_hash::UniversalHash as _};

use super::{IV, Mode};

/// One direction of one cipher. It goes on where it stopped.
pub(super) trait Transform: Send + Sync {
    /// Encrypts or decrypts in place. [`Mode::Cbc`] takes whole blocks of 16 bytes and leaves the rest as it is.
    ///
    /// False: a counter has come to its end, after 64 GiB of [`Mode::Gcm`]. Nothing was done, and to go on would be to
    /// encrypt two texts alike.
    fn apply(&mut self, bytes: &mut [u8]) -> bool;
}

/// `None`: the key has no size of AES.
pub(super) fn encryptor(mode: Mode, key: &[u8], iv: &[u8; IV]) -> Option<Box<dyn Transform>> {
    match key.len() {
        16 => one::<Aes128>(mode, key, iv, true),
        24 => one::<Aes192>(mode, key, iv, true),
        _ => one::<Aes256>(mode, key, iv, true),
    }
}

/// The way back; `None` as for [`encryptor`].
pub(super) fn decryptor(mode: Mode, key: &[u8], iv: &[u8; IV]) -> Option<Box<dyn Transform>> {
    match key.len() {
        16 => one::<Aes128>(mode, key, iv, false),
        24 => one::<Aes192>(mode, key, iv, false),
        _ => one::<Aes256>(mode, key, iv, false),
    }
}

fn one<C>(mode: Mode, key: &[u8], iv: &[u8; IV], encrypts: bool) -> Option<Box<dyn Transform>>
where
    C: KeyInit
        + BlockSizeUser<BlockSize = U16>
        + BlockCipherEncrypt
        + BlockCipherDecrypt
        + Send
        + Sync
        + 'static,
{
    let cipher = C::new_from_slice(key).ok()?;
    let iv = Array::from(*iv);
    Some(match (mode, encrypts) {
        (Mode::Cbc, true) => Box::new(Chaining(cbc::Encryptor::inner_iv_init(cipher, &iv))),
        (Mode::Cbc, false) => Box::new(Unchaining(cbc::Decryptor::inner_iv_init(cipher, &iv))),
        (Mode::Cfb, true) => Box::new(Feeding(cfb_mode::BufEncryptor::inner_iv_init(cipher, &iv))),
        (Mode::Cfb, false) => Box::new(Unfeeding(cfb_mode::BufDecryptor::inner_iv_init(cipher, &iv))),
        (Mode::Ctr, _) => Box::new(Keystream(StreamCipherCoreWrapper::from_core(
            CtrCore::<C, Ctr128BE>::inner_iv_init(cipher, &iv),
        ))),
        (Mode::Gcm, _) => {
            let first = first_counter(&cipher, iv);
            Box::new(Keystream(StreamCipherCoreWrapper::from_core(CtrCore::<C, Ctr32BE>::inner_iv_init(
                cipher, &first,
            ))))
        }
    })
}

/// The counter of GCM's first block of text for an iv that has not 96 bits: what GHASH makes of it, and one more
/// (SP 800-38D section 7.1, steps 2 and 3).
fn first_counter<C>(cipher: &C, iv: Array<u8, U16>) -> Array<u8, U16>
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut key = Array::default();
    cipher.encrypt_block(&mut key);
    let mut hash = GHash::new(&key);
    let length: [u8; IV] = 128_u128.to_be_bytes();
    hash.update(&[iv, Array::from(length)]);
    let [front @ .., a, b, c, d]: [u8; IV] = hash.finalize().into();
    let counter = u32::from_be_bytes([a, b, c, d]).wrapping_add(1).to_be_bytes();
    let mut first = Array::default();
    for (to, from) in first.iter_mut().zip(front.into_iter().chain(counter)) {
        *to = from;
    }
    first
}

struct Chaining<C: BlockCipherEncrypt>(cbc::Encryptor<C>);
struct Unchaining<C: BlockCipherDecrypt>(cbc::Decryptor<C>);
struct Feeding<C: BlockCipherEncrypt>(cfb_mode::BufEncryptor<C>);
struct Unfeeding<C: BlockCipherEncrypt>(cfb_mode::BufDecryptor<C>);
struct Keystream<S>(S);

impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + Send + Sync> Transform for Chaining<C> {
    fn apply(&mut self, bytes: &mut [u8]) -> bool {
        self.0.encrypt_blocks(Array::slice_as_chunks_mut(bytes).0);
        true
    }
}

impl<C: BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + Send + Sync> Transform for Unchaining<C> {
    fn apply(&mut self, bytes: &mut [u8]) -> bool {
        self.0.decrypt_blocks(Array::slice_as_chunks_mut(bytes).0);
        true
    }
}

impl<C: BlockCipherEncrypt + Send + Sync> Transform for Feeding<C> {
    fn apply(&mut self, bytes: &mut [u8]) -> bool {
        self.0.encrypt(bytes);
        true
    }
}

impl<C: BlockCipherEncrypt + Send + Sync> Transform for Unfeeding<C> {
    fn apply(&mut self, bytes: &mut [u8]) -> bool {
        self.0.decrypt(bytes);
        true
    }
}

impl<S: StreamCipher + Send + Sync> Transform for Keystream<S> {
    fn apply(&mut self, bytes: &mut [u8]) -> bool {
        self.0.try_apply_keystream(bytes).is_ok()
    }
}
