import { hkdfSync, randomBytes, webcrypto } from 'node:crypto'
import { RungError } from '../kernel/errors.ts'
import { DamagedFile } from './content.ts'

/**
 * Encrypts objects of a bucket: AES-256-GCM, a key for each object.
 *
 *   RUNGBAK1 | id of the key, 8 bytes | salt, 32 bytes | content, encrypted | tag, 16 bytes
 *
 * The key of an object is derived (HKDF-SHA-256) from the user's key and the salt, so no nonce is ever used twice. The tag covers the name too:
 * an object that was changed, cut off, or put in the place of another one is not read.
 */
export interface Cipher {
  /** Tells keys apart, and says nothing about them. */
  readonly keyId: string
  seal(name: string, content: Uint8Array): Promise<Buffer>
  /** @throws DamagedFile; BACKUP_KEY_WRONG if the object was sealed with another key */
  open(name: string, sealed: Uint8Array): Promise<Buffer>
}

const magic = Buffer.from('RUNGBAK1')
const saltBytes = 32
const tagBytes = 16
/** What an object has besides its content. */
export const sealBytes = magic.length + 8 + saltBytes + tagBytes

export function cipherOf(userKey: string): Cipher {
  const id = Buffer.from(hkdfSync('sha256', userKey, '', 'rung backup: id of the key', 8))
  const root = webcrypto.subtle.importKey('raw', Buffer.from(userKey), 'HKDF', false, ['deriveKey'])

  async function aesOf(name: string, head: Buffer) {
    const hkdf = {
      name: 'HKDF',
      hash: 'SHA-256',
      salt: head.subarray(-saltBytes),
      info: Buffer.from('rung backup: object'),
    }
    const use = ['encrypt', 'decrypt'] as const
    const key = await webcrypto.subtle.deriveKey(hkdf, await root, { name: 'AES-GCM', length: 256 }, false, [...use])
    // One message for each key: the nonce may be constant.
    return {
      key,
      gcm: { name: 'AES-GCM', iv: Buffer.alloc(12), additionalData: Buffer.concat([head, Buffer.from(name)]) },
    }
  }

  return {
    keyId: id.toString('hex'),
    async seal(name, content) {
      const head = Buffer.concat([magic, id, randomBytes(saltBytes)])
      const { gcm, key } = await aesOf(name, head)
      const encrypted = await webcrypto.subtle.encrypt(gcm, key, content as Uint8Array<ArrayBuffer>)
      return Buffer.concat([head, Buffer.from(encrypted)])
    },
    async open(name, sealed) {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
      if (bytes.length < sealBytes) throw new DamagedFile(name, 'is truncated')
      if (!bytes.subarray(0, magic.length).equals(magic)) throw new DamagedFile(name, 'was not written by Rung')
      const head = bytes.subarray(0, magic.length + id.length + saltBytes)
      const otherId = head.subarray(magic.length, magic.length + id.length)
      if (!otherId.equals(id)) throw wrongKey(name, otherId.toString('hex'), id.toString('hex'))
      const { gcm, key } = await aesOf(name, head)
      const content = await webcrypto.subtle
        .decrypt(gcm, key, bytes.subarray(head.length) as Uint8Array<ArrayBuffer>)
        .catch(() => {
          throw new DamagedFile(name, 'was changed, cut off or exchanged: it cannot be decrypted')
        })
      return Buffer.from(content)
    },
  }
}

function wrongKey(name: string, needed: string, given: string): RungError {
  return new RungError(
    'BACKUP_KEY_WRONG',
    `${name} is encrypted with the key ${needed}, and RUNG_BACKUP_KEY is the key ${given}. Set the key with which it was backed up; to begin anew with another key, name another folder of the bucket.`,
    { facts: { needed, given } },
  )
}
