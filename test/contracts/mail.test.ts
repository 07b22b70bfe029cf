import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { emlMail } from '../../src/primitives/mail/eml.ts'
import { smtpMail } from '../../src/primitives/mail/smtp.ts'
import { receivedBy, startSmtp } from '../support/smtp.ts'
import { mailContract } from './mail.ts'

mailContract('smtp', async () => {
  const server = await startSmtp()
  return {
    transport: smtpMail({ host: '127.0.0.1', port: server.port, secure: false, auth: undefined }),
    received: async () => server.received,
    interrupt: () => server.close(),
    restore: () => server.open(),
    close: () => server.close(),
  }
})

mailContract('eml', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const prepare = async () => {
    if (away) throw new Error('the disk is away')
  }
  let away = false
  const transport = await emlMail({ folder: path.join(dir, 'mail'), prepare })
  return {
    transport,
    received: () => receivedBy(transport),
    interrupt: async () => (away = true),
    restore: async () => (away = false),
    close: () => rm(dir, { recursive: true }),
  }
})
