import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { type Clock, everyAlone, freshRun, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'

/** The certificate of the entry. */
export interface Certificate {
  /** The certificate, those of its issuers, and the key, as PEM without empty lines. */
  readonly pem: string
  readonly facts: CertificateFacts
}

/** What `rung ps` tells of it. */
export interface CertificateFacts {
  readonly file: string
  readonly names: readonly string[]
  /** Ms since the epoch. */
  readonly beginsAt: number
  readonly endsAt: number
}

/** The files of the settings; absolute. */
export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** @throws CERTIFICATE_INVALID */
export async function readCertificate(files: CertificateFiles, clock: Clock = systemClock): Promise<Certificate> {
  const [cert, key] = await Promise.all([readPem(files.cert), readPem(files.key)])
  return certificateOf(files, cert, key, clock.now())
}

async function readPem(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause) => {
    throw invalid(`${file} cannot be read: ${messageOf(cause)}. Correct the path, or let this user read it`, cause)
  })
}

/**
 * Checks a certificate and its key. One that has expired is accepted, and its user warns: a fleet that did not start with it could not answer the
 * challenge for the next one. Pure.
 * @param cert texts, as PEM
 * @throws CERTIFICATE_INVALID
 */
export function certificateOf(files: CertificateFiles, cert: string, key: string, now: number): Certificate {
  const chain = cert.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g)?.map(parseCertificate)
  if (!chain) throw invalid(`${files.cert} contains no certificate. Name the full chain, as PEM`)
  const whole = cert.match(/-----BEGIN ([A-Z0-9 ]+)-----[\s\S]+?-----END \1-----/g)!
  if (cert.match(/-----BEGIN/g)!.length !== whole.length)
    throw invalid(`In ${files.cert} a certificate is cut off. Name the full chain, as PEM`)
  const parsed = parseKey(files.key, key)
  const [own] = chain
  if (!own!.checkPrivateKey(parsed)) {
    const isFurther = chain.some((one) => one.checkPrivateKey(parsed))
    throw invalid(
      isFurther
        ? `In ${files.cert} the certificate of ${files.key} is not the first. Put it before those of its issuers`
        : `${files.key} is not the key of the certificate in ${files.cert}. Name the two files of one certificate`,
    )
  }
  const [beginsAt, endsAt] = [Date.parse(own!.validFrom), Date.parse(own!.validTo)]
  if (beginsAt > now) throw invalid(`The certificate in ${files.cert} begins at ${iso(beginsAt)}. Look at the clock`)
  const text = [...chain.map(String), parsed.export({ type: 'pkcs8', format: 'pem' })].map((one) => `${one}`.trim())
  try {
    // As strict as the engines: keys of less than 112 bits of strength are refused.
    createSecureContext({ cert: text.slice(0, -1).join('\n'), key: text.at(-1)!, ciphers: 'DEFAULT@SECLEVEL=2' })
  } catch (cause) {
    throw invalid(`The certificate in ${files.cert} cannot be used: ${messageOf(cause)}. Make a new one`, cause)
  }
  return { pem: `${text.join('\n')}\n`, facts: { file: files.cert, names: namesOf(own!), beginsAt, endsAt } }

  function parseCertificate(one: string): X509Certificate {
    try {
      return new X509Certificate(one)
    } catch (cause) {
      throw invalid(`${files.cert} contains a damaged certificate: ${messageOf(cause)}. Copy it anew`, cause)
    }
  }
}

function parseKey(file: string, key: string) {
  try {
    return createPrivateKey(key)
  } catch (cause) {
    const why = /ENCRYPTED/.test(key) ? 'it has a passphrase' : messageOf(cause)
    throw invalid(`${file} contains no key that can be used: ${why}. Name the key, as PEM without a passphrase`, cause)
  }
}

function namesOf({ subjectAltName, subject }: X509Certificate): string[] {
  const names = subjectAltName?.split(', ').map((one) => one.replace(/^(DNS|IP Address):/, ''))
  return names ?? [subject.replace(/^[\s\S]*CN=/, '')]
}

const iso = (time: number) => new Date(time).toISOString().slice(0, 16).replace('T', ' ')

function invalid(message: string, cause?: unknown): RungError {
  return new RungError('CERTIFICATE_INVALID', `${message}.`, cause === undefined ? {} : { cause })
}

const dayMs = 86_400_000
const warnedMsMost = 30 * dayMs

/** Returns in how many whole days the certificate ends, if that is soon: in 30 days, or in a third of its life if that is shorter. Pure. */
export function daysLeft({ beginsAt, endsAt }: Pick<CertificateFacts, 'beginsAt' | 'endsAt'>, now: number) {
  const left = endsAt - now
  return left < Math.min(warnedMsMost, (endsAt - beginsAt) / 3) ? Math.floor(left / dayMs) : undefined
}

/** Looks at the files by their content, since they may be links to links, and no notice of the file system is complete. */
const lookEveryMs = 10_000

/** The certificate of a running fleet. */
export interface KeptCertificate {
  /** The one that is in use. */
  readonly now: Certificate
  /** Why the files could not be used when they were last looked at. */
  readonly problem: string | undefined
  /** Reads the files, and uses what is new. @throws CERTIFICATE_INVALID; the present one stays in use */
  reload(): Promise<void>
  /** Looks at the files again and again, and calls `changed` after something has changed. @returns what ends this */
  watch(changed: () => void): () => Promise<void>
}

/**
 * Keeps the certificate of the entry. A renewal writes two files, which for a moment do not belong together: then it is tried again.
 * @param does `use` lets the entry use a certificate, and rejects if it does not; `note` is told of a new one, and of trouble once
 */
export function keepCertificate(
  files: CertificateFiles,
  first: Certificate,
  {
    use,
    note,
    clock = systemClock,
  }: { use(certificate: Certificate): Promise<void>; note(text: string): void; clock?: Clock },
): KeptCertificate {
  let present = first
  let problem: string | undefined

  async function reload(): Promise<void> {
    try {
      const next = await readCertificate(files, clock)
      if (next.pem !== present.pem) {
        const { endsAt } = next.facts
        if (endsAt <= clock.now()) throw invalid(`The certificate in ${files.cert} expired at ${iso(endsAt)}. Renew it`)
        await use(next)
        present = next
        note(`is new: ${next.facts.names.join(', ')}, until ${iso(next.facts.endsAt)}`)
      }
      problem = undefined
    } catch (error) {
      if (problem !== messageOf(error)) note(messageOf(error))
      problem = messageOf(error)
      throw error
    }
  }
  const alone = freshRun(reload)
  return {
    get now() {
      return present
    },
    get problem() {
      return problem
    },
    reload: alone,
    watch(changed) {
      let warnedOf: number | undefined
      return everyAlone(lookEveryMs, async () => {
        const before = [present, problem]
        await alone().catch(() => {}) // it is told, and tried again
        const days = daysLeft(present.facts, clock.now())
        if (days !== undefined && days !== warnedOf)
          note(days < 0 ? 'has expired: renew it' : `ends in ${days} days: renew it`)
        warnedOf = days
        if (present !== before[0] || problem !== before[1]) changed()
      })
    },
  }
}
