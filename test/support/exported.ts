import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { composeFiles } from '../../src/export/compose.ts'
import type { Exported, ExportedApp, Files } from '../../src/export/files.ts'
import { imageFiles } from '../../src/export/image.ts'
import { kubernetesFiles } from '../../src/export/kubernetes.ts'
import { type Machine, systemdFiles } from '../../src/export/systemd.ts'
import { workflowFiles } from '../../src/export/workflow.ts'
import { deploymentOf } from '../../src/fleet/deployment.ts'
import { engines } from '../../src/fleet/engines.ts'
import { rungNames } from '../../src/topology/catalog.ts'
import { readSettings, type Sources } from '../../src/topology/read-settings.ts'

export const targets = { compose: composeFiles, kubernetes: kubernetesFiles } as const
export type Target = keyof typeof targets
export { rungNames }

export type Env = Readonly<Record<string, string>>

/** What is written for an app named "notes". */
export function filesFor(target: Target, rung: string, env: Env = {}, app: Partial<ExportedApp> = {}): Files {
  return targets[target](exportedOf(rung, env, app))
}

export function exportedOf(rung: string, env: Env = {}, app: Partial<ExportedApp> = {}): Exported {
  return exportedFrom({ env, options: { rung } }, { name: 'notes', ...app })
}

function exportedFrom(sources: Sources, app: Partial<ExportedApp>): Exported {
  const settings = readSettings(sources)
  return {
    settings,
    deployment: deploymentOf(settings, engines),
    app: { name: 'app', file: undefined, stopMs: 60_000, requestTimeoutMs: 30_000, trustedProxies: [], ...app },
    context: '..',
  }
}

/** Units for an app named "shop". */
export function unitsFor(sources: Sources, machine: Partial<Machine> = {}): Files {
  return systemdFiles({
    ...exportedFrom(sources, { name: 'shop', stopMs: 42_000 }),
    machine: {
      ...{ cwd: '/srv/shop', program: ['/usr/bin/node', '/srv/shop/rung.js'] },
      ...{ dataDir: '/srv/shop/.rung', backupDir: undefined },
      ...machine,
    },
  })
}

/** The settings of the guide to one server. */
export const oneServer = {
  ...{ HOST: '0.0.0.0', PORT: '443', RUNG_PLAIN_PORT: '80', RUNG_EDGE: 'on', RUNG_BACKUP_DIR: '/mnt/backups' },
  ...{ RUNG_TLS_CERT: '/etc/shop/tls/cert.pem', RUNG_TLS_KEY: '/etc/shop/tls/key.pem' },
  ...{ RUNG_SMTP_URL: 'smtps://me:hidden@mail.example', RUNG_MAIL_FROM: 'Shop 24 <shop@shop.example>' },
}

const goldenDir = fileURLToPath(new URL('../export/golden/', import.meta.url))

/** What is to be looked at, without what follows from other files. */
export const withoutHashes = (text: string) => text.replace(/(rung\.files: )"\w+"/g, '$1"…"')

export const pipeline = {
  ...{ name: 'notes', file: undefined, proof: 'prove.ts' },
  ...{ folder: 'deploy', parts: ['web', 'worker'] },
}

/** Everything that is written, by path; nginx' files are tested by nginx itself. */
export function goldenFiles(): Map<string, string> {
  const within = (folder: string, files: Files) =>
    Object.entries(files).map(([name, text]): [string, string] => [`${folder}/${name}`, text])
  const files = (Object.keys(targets) as Target[]).flatMap((target) => [
    ...rungNames.flatMap((rung) => within(`${target}/${rung}`, filesFor(target, rung))),
    ...within(target, { 'ship.yaml': Object.values(workflowFiles(target, pipeline))[0]! }),
  ])
  const image = imageFiles({ file: undefined, packed: 'vendor/rung-0.1.0.tgz', hidden: [] })
  const units = unitsFor({ env: oneServer }, { backupDir: '/mnt/backups' })
  return new Map(
    [...within('image', image), ...within('systemd', units), ...files]
      .filter(([name]) => !name.includes('/edge/'))
      .map(([name, text]) => [path.join(goldenDir, name), withoutHashes(text)]),
  )
}

export function goldenOnDisk(): Map<string, string> {
  const files = readdirSync(goldenDir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return new Map(
    files.map(({ parentPath, name }) => path.join(parentPath, name)).map((file) => [file, readFileSync(file, 'utf8')]),
  )
}
