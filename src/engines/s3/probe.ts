import { RungError } from '../../kernel/errors.ts'
import type { S3Address } from '../../topology/urls.ts'
import { type S3Client, S3Failure } from './client.ts'
import { ownFolder } from './objects.ts'

/**
 * Finds out what is wrong, and whether the store verifies digests, by a body that does not match its own. Nothing is stored.
 * @param variable the setting that the message names
 * @returns the failure if the store cannot be reached now
 * @throws CONFIG_INVALID if the bucket, the keys, the region or the clock is wrong, or the store does not verify digests
 */
export async function probe(client: S3Client, address: S3Address, variable: string): Promise<S3Failure | undefined> {
  const wrong = { bytes: Buffer.from('x'), sha256: '0'.repeat(64) }
  const key = `${address.prefix}${ownFolder}probe`
  const invalid = (why: string, cause?: unknown) =>
    new RungError('CONFIG_INVALID', `${variable} cannot be used: ${why}.`, { cause })
  try {
    await client.ask({ method: 'GET', query: { 'list-type': '2', 'max-keys': '1', prefix: address.prefix } })
    await client.ask({ method: 'PUT', key, body: wrong })
    await client.ask({ method: 'DELETE', key })
  } catch (error) {
    if (!(error instanceof S3Failure)) throw error
    if (error.code === 'XAmzContentSHA256Mismatch' || error.code === 'BadDigest') return undefined
    const why = reasonOf(error, address)
    if (why !== undefined) throw invalid(why, error)
    return error
  }
  throw invalid('the store accepted a body that does not match its digest. Use a store that verifies signed digests')
}

/** Returns what is wrong with the configuration, or `undefined` if it may be right. */
function reasonOf({ code, status }: S3Failure, { bucket, host, region }: S3Address): string | undefined {
  switch (code) {
    case 'NoSuchBucket':
      return `there is no bucket "${bucket}" at ${host}. Create it, or correct its name`
    case 'InvalidAccessKeyId':
      return `${host} does not know the access key. Correct it`
    case 'SignatureDoesNotMatch':
      return `the secret key is wrong, or the region is not "${region}". Encode / + @ : in the secret as %2F %2B %40 %3A`
    case 'AccessDenied':
      return `the access key may not list, read, write and delete in the bucket "${bucket}". Allow it to`
    case 'RequestTimeTooSkewed':
      return `the clock of this machine differs from that of ${host} by more than 15 minutes. Set it`
    case 'PermanentRedirect':
    case 'TemporaryRedirect':
    case 'AuthorizationHeaderMalformed':
    case 'IllegalLocationConstraintException':
      return `the bucket "${bucket}" is not in the region "${region}". Name its region: ?region=…`
    case 'ENOTFOUND':
      return `there is no host ${host}. Correct its name`
  }
  if (status === 0 || status === 429 || status >= 500) return undefined
  return `${host} refuses requests: ${code}`
}
