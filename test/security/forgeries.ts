import { createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/** Texts that must not be taken, by what is wrong with them. */
export type Forgeries = Record<string, string>

const encode = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url')
const mac = (key: Uint8Array | string, text: string, hash = 'sha256') =>
  createHmac(hash, key).update(text).digest('base64url')

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

/** The last letter of 32 bytes in base64url has two bits that do not count: the same bytes in other letters. */
function withOtherLastBits(text: string): string {
  const at = alphabet.indexOf(text.at(-1)!)
  return text.slice(0, -1) + alphabet[at ^ 1]
}

/** A text with a signature somewhere in it, changed in ways that need no knowledge of what it says. */
export function altered(text: string): Forgeries {
  const forged: Forgeries = {
    'without its first letter': text.slice(1),
    'without its last letter': text.slice(0, -1),
    'with a letter more': `${text}A`,
    'with a letter in front': `A${text}`,
    'half of it': text.slice(0, text.length / 2),
    'twice in a row': text + text,
    backwards: [...text].reverse().join(''),
    'in capitals': text.toUpperCase(),
    'in small letters': text.toLowerCase(),
    'padded with =': `${text}=`,
    'in quotes': `"${text}"`,
    'with a percent sign': `${text}%`,
    'with an encoded NUL': `${text}%00`,
    'with a space within': `${text.slice(0, 9)} ${text.slice(9)}`,
    'with other bits at its end': withOtherLastBits(text),
    'encoded again': Buffer.from(text).toString('base64url'),
    nothing: '',
    'a word': 'undefined',
    'letters of no meaning': 'x'.repeat(text.length),
    'random bytes': randomBytes(60).toString('base64url'),
    'a huge text': 'x'.repeat(8_000),
  }
  const places = Math.min(16, text.length)
  for (let n = 0; n < places; n += 1) {
    const at = Math.floor((n * text.length) / places)
    const was = text[at]!
    if (was === '.') continue
    const other = alphabet[(alphabet.indexOf(was) + 32) % 64]
    forged[`letter ${at} changed`] = text.slice(0, at) + other + text.slice(at + 1)
  }
  return forged
}

export interface Jwt {
  header: Record<string, unknown>
  claims: Record<string, unknown>
}

/** Header and claims of a token. */
export function readJwt(token: string): Jwt {
  const [header, claims] = token.split('.').map((part) => Buffer.from(part, 'base64url').toString())
  return { header: JSON.parse(header!), claims: JSON.parse(claims!) }
}

/**
 * Forged JSON Web Tokens, made of two good ones.
 * @param key the key that signs the good ones: what it signs must still say the right things
 * @param otherKeys keys of the same app for other purposes, by what they are for
 */
export function forgedJwts(
  own: string,
  victim: string,
  key: Uint8Array,
  otherKeys: Record<string, Uint8Array>,
): Forgeries {
  const { header, claims } = readJwt(victim)
  const [h = '', c = '', s = ''] = victim.split('.')
  const [ownH = '', _ownC = '', ownS = ''] = own.split('.')
  const now = Math.floor(Date.now() / 1000)
  const signed = (by: Uint8Array | string, head: unknown, says: unknown, hash?: string) =>
    signedText(by, encode(head), encode(says), hash)
  const signedText = (by: Uint8Array | string, head: string, says: string, hash?: string) =>
    `${head}.${says}.${mac(by, `${head}.${says}`, hash)}`
  const text = (raw: string) => Buffer.from(raw, 'latin1').toString('base64url')
  const forged: Forgeries = {}

  for (const alg of [
    'none',
    'None',
    'NONE',
    'nOnE',
    '',
    'null',
    'HS1',
    'hs256',
    'HS256 ',
    'HS256\0',
    'RS256',
    'ES256',
  ]) {
    const head = encode({ ...header, alg })
    forged[`algorithm ${JSON.stringify(alg)} without a signature`] = `${head}.${c}.`
    forged[`algorithm ${JSON.stringify(alg)} and the old signature`] = `${head}.${c}.${s}`
  }
  for (const alg of [null, 256, ['HS256'], { alg: 'HS256' }, true, undefined]) {
    const name = JSON.stringify(alg) ?? 'missing'
    forged[`algorithm ${name}, signed`] = signed(key, { ...header, alg }, claims)
  }
  forged['another hash, signed with the right key'] = signed(key, { ...header, alg: 'HS384' }, claims, 'sha384')
  forged['the longest hash, signed with the right key'] = signed(key, { ...header, alg: 'HS512' }, claims, 'sha512')
  forged['the wrong hash under the right name'] = signed(key, header, claims, 'sha512')
  for (const crit of [['exp'], ['b64'], ['unheard-of'], [], 'exp']) {
    forged[`critical ${JSON.stringify(crit)}`] = signed(key, { ...header, crit, b64: false }, claims)
  }

  const keys: Record<string, Uint8Array | string> = {
    ...otherKeys,
    'an empty key': '',
    'a zero': '\0',
    zeros: new Uint8Array(32),
    'a usual one': 'secret',
    'another usual one': 'your-256-bit-secret',
    'the right one as text': Buffer.from(key).toString('hex'),
    'half of the right one': key.slice(0, 16),
    'the right one and more': Buffer.concat([key, Buffer.from([1])]),
    'the signature of another token': Buffer.from(ownS, 'base64url'),
    'somebody else': randomBytes(32),
  }
  for (const [name, other] of Object.entries(keys)) forged[`key: ${name}`] = signed(other, header, claims)
  const kids = [
    '../../../../dev/null',
    '/proc/sys/kernel/ostype',
    "' union select 'x' --",
    '|/bin/true',
    'http://127.0.0.1:1/',
    '',
  ]
  for (const kid of kids) forged[`a key named ${JSON.stringify(kid)}`] = signed('', { ...header, kid }, claims)
  for (const [type, pair, alg] of [
    ['ed25519', generateKeyPairSync('ed25519'), 'EdDSA'],
    ['ec', generateKeyPairSync('ec', { namedCurve: 'P-256' }), 'ES256'],
    ['rsa', generateKeyPairSync('rsa', { modulusLength: 2048 }), 'RS256'],
  ] as const) {
    const jwk = pair.publicKey.export({ format: 'jwk' })
    const pem = pair.publicKey.export({ format: 'pem', type: 'spki' })
    const head = encode({ alg, typ: 'JWT', jwk, jku: 'http://127.0.0.1:1/', x5u: 'http://127.0.0.1:1/' })
    const hash = type === 'ed25519' ? null : 'sha256'
    const signature = sign(hash, Buffer.from(`${head}.${c}`), { key: pair.privateKey, dsaEncoding: 'ieee-p1363' })
    forged[`a ${type} key brought along`] = `${head}.${c}.${signature.toString('base64url')}`
    forged[`a public ${type} key as the secret`] = signed(String(pem), header, claims)
    forged[`a key of bytes brought along, beside ${type}`] = signed(
      'k',
      { ...header, jwk: { kty: 'oct', k: 'aw' } },
      claims,
    )
  }

  const wrong: Record<string, unknown> = {
    'expired a second ago': { exp: now - 1 },
    'expired long ago': { exp: 1 },
    'expires as text': { exp: String(now + 1_000) },
    'expires never': { exp: null },
    'without an end': { exp: undefined },
    'ends in a list': { exp: [now + 1_000] },
    'ended before the beginning': { exp: -now },
    'not yet valid': { nbf: now + 3_600 },
    'valid from a text': { nbf: 'now' },
    'without an owner': { sub: undefined },
    'of an empty owner': { sub: '' },
    'of owner 0': { sub: '0' },
    'of a negative owner': { sub: '-1' },
    'of half an owner': { sub: '1.5' },
    'of an owner beyond numbers': { sub: '9007199254740993' },
    'of no number': { sub: 'admin' },
    'of an object': { sub: { id: claims.sub } },
    'of a statement': { sub: `${claims.sub} or 1=1` },
    'of nobody': { sub: '999999999' },
    'of an earlier password': { gen: -1 },
    'of a later password': { gen: 99 },
    'of a password in words': { gen: 'x' },
  }
  for (const [name, change] of Object.entries(wrong))
    forged[`claims ${name}`] = signed(key, header, { ...claims, ...(change as object) })
  for (const [name, says] of Object.entries({
    'a list': [],
    'a text': 'x',
    null: null,
    'a number': 1,
    'an empty object': {},
  }))
    forged[`claims that are ${name}`] = signed(key, header, says)
  forged['claims that are no JSON'] = signedText(key, h, text('{"sub":"1"'))
  forged['claims that are no text'] = signedText(key, h, text('\xff\xfe\x00'))
  forged['claims with JSON behind'] = signedText(key, h, text(`${JSON.stringify(claims)}{}`))
  forged['claims with an endless number'] = signedText(
    key,
    h,
    text(`{"sub":"${claims.sub}","exp":1e999}`.replace('1e999', '"x"')),
  )
  forged['a header that is no JSON'] = signedText(key, text('{"alg":"HS256"'), c)
  forged['a header that is a list'] = signedText(key, text('[]'), c)

  // Who signs must not decide between two claims of one name: nobody but the app signs.
  const twice = text(`{"sub":"${claims.sub}","sub":"1","exp":${now + 1_000}}`)
  forged['claims named twice, old signature'] = `${h}.${twice}.${s}`
  forged['an algorithm named twice'] = `${text('{"alg":"HS256","alg":"none"}')}.${c}.`
  forged['an algorithm with an escape'] = `${text('{"\\u0061lg":"none"}')}.${c}.`
  forged['a header with a byte order mark'] = `${text('\xef\xbb\xbf{"alg":"none"}')}.${c}.`

  Object.assign(forged, {
    'signed by its owner, claims of the victim': `${ownH}.${c}.${ownS}`,
    'the signature of another token in place': `${h}.${c}.${ownS}`,
    'other claims, old signature': `${h}.${encode({ ...claims, sub: '1' })}.${s}`,
    'one more claim': `${h}.${encode({ ...claims, admin: true })}.${s}`,
    'the same claims in another order': `${h}.${encode(Object.fromEntries(Object.entries(claims).reverse()))}.${s}`,
    'the same claims with spaces': `${h}.${text(JSON.stringify(claims, null, 1))}.${s}`,
    'the same header in another order': `${encode(Object.fromEntries(Object.entries(header).reverse()))}.${c}.${s}`,
    'one part': h,
    'two parts': `${h}.${c}`,
    'an empty signature': `${h}.${c}.`,
    'four parts': `${victim}.${s}`,
    'five parts, as if encrypted': `${encode({ alg: 'dir', enc: 'A256GCM' })}..AAAA.${c}.AAAA`,
    'parts exchanged': `${c}.${h}.${s}`,
    'an empty header': `.${c}.${s}`,
    'empty claims': `${h}..${s}`,
    'dots alone': '..',
    'as JSON': JSON.stringify({ protected: h, payload: c, signature: s }),
    'within another token': signed('x', { alg: 'HS256', cty: 'JWT' }, victim),
    'two in a list': `${victim}, ${own}`,
    'the signature padded': `${h}.${c}.${s}=`,
    'the claims padded': `${h}.${c}=.${s}`,
    'the signature in hexadecimal': `${h}.${c}.${Buffer.from(s, 'base64url').toString('hex')}`,
    'the signature in other letters': `${h}.${c}.${withOtherLastBits(s)}`,
    'the signature with a letter that is none': `${h}.${c}.${s.slice(0, 9)}~${s.slice(9)}`,
    'a huge header': signed('x', { ...header, x: 'x'.repeat(7_000) }, claims),
    'huge claims': signed('x', header, { ...claims, x: 'x'.repeat(7_000) }),
    'a huge signature': `${h}.${c}.${'A'.repeat(9_000)}`,
  })
  return { ...forged, ...altered(victim) }
}

/** Forged cookies `<body>.<signature>`, made of good ones. */
export function forgedSigned(own: string, victim: string, otherKeys: Record<string, Uint8Array>): Forgeries {
  const [body = '', signature = ''] = victim.split('.')
  const [ownBody = '', ownSignature = ''] = own.split('.')
  const forged: Forgeries = {
    'the signature of another one': `${body}.${ownSignature}`,
    'the body of another one': `${ownBody}.${signature}`,
    'a body alone': body,
    'a body that signs itself': `${body}.${body}`,
    'an empty signature': `${body}.`,
    'a third part': `${victim}.${signature}`,
    exchanged: `${signature}.${body}`,
    'the signature in other letters': `${body}.${withOtherLastBits(signature)}`,
    'the body in other letters': `${withOtherLastBits(body)}.${signature}`,
    'a fresh body with the signature of zeros': `${randomBytes(32).toString('base64url')}.${'A'.repeat(43)}`,
  }
  for (const [name, key] of Object.entries(otherKeys)) {
    for (const purpose of ['', 'token ', 'next ', 'session ']) {
      forged[`key: ${name}, purpose ${JSON.stringify(purpose)}`] = `${body}.${mac(key, purpose + body)}`
    }
  }
  return { ...forged, ...altered(victim) }
}
