import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Makes a certificate that signs itself, and its key, with the openssl of this machine. */
export async function makeCertificate(
  dir: string,
  name: string,
  { days = 90, bits }: { days?: number; bits?: number } = {},
): Promise<{ cert: string; key: string }> {
  const [cert, key] = [path.join(dir, `${name}.pem`), path.join(dir, `${name}.key`)]
  const kind = bits === undefined ? ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'] : [`rsa:${bits}`]
  await run('openssl', [
    ...['req', '-x509', '-newkey', ...kind, '-nodes', '-days', String(days)],
    ...['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name},DNS:localhost,IP:127.0.0.1`],
    ...['-keyout', key, '-out', cert],
  ])
  return { cert, key }
}
