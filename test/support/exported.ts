import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { composeFiles } from '../../src/export/compose.ts'
import type { Exported, ExportedApp, Files } from '../../src/export/files.ts'
import { imageFiles } from '../../src/export/image.ts'
import { kubernetesFiles } from '../../src/export/kubernetes.ts'
import { workflowFiles } from '../../src/export/workflow.ts'
import { deploymentOf } from '../../src/fleet/deployment.ts'
import { engines } from '../../src/fleet/engines.ts'
import { rungNames } from '../../src/topology/catalog.ts'
import { readSettings } from '../../src/topology/read-settings.ts'

export const targets = { compose: composeFiles, kubernetes: kubernetesFiles } as const
export type Target = keyof typeof targets
export { rungNames }

export type Env = Readonly<Record<string, string>>

/** What is written for an app named "notes". */
export function filesFor(target: Target, rung: string, env: Env = {}, app: Partial<ExportedApp> = {}): Files {
  return targets[target](exportedOf(rung, env, app))
}

export function exportedOf(rung: string, env: Env = {}, app: Partial<ExportedApp> = {}): Exported {
  const settings = readSettings({ env, options: { rung } })
  return {
    settings,
    deployment: deploymentOf(settings, engines),
    app: { name: 'notes', file: undefined, stopMs: 60_000, requestTimeoutMs: 30_000, trustedProxies: [], ...app },
    context: '..',
  }
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
  const image = Object.entries(imageFiles({ file: undefined, packed: 'vendor/rung-0.1.0.tgz' }))
  const others = (Object.keys(targets) as Target[]).flatMap((target) =>
    rungNames.flatMap((rung) =>
      Object.entries(filesFor(target, rung)).map(([name, text]): [string, string] => [
        `${target}/${rung}/${name}`,
        text,
      ]),
    ),
  )
  const workflows = (Object.keys(targets) as Target[]).flatMap((target) =>
    Object.values(workflowFiles(target, pipeline)).map((text): [string, string] => [`${target}/ship.yaml`, text]),
  )
  const isLong = (name: string) => name.includes('/edge/')
  return new Map(
    [...image.map(([name, text]): [string, string] => [`image/${name}`, text]), ...workflows, ...others]
      .filter(([name]) => !isLong(name))
      .map(([name, text]) => [path.join(goldenDir, name), withoutHashes(text)]),
  )
}

export function goldenOnDisk(): Map<string, string> {
  const files = readdirSync(goldenDir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return new Map(
    files.map(({ parentPath, name }) => path.join(parentPath, name)).map((file) => [file, readFileSync(file, 'utf8')]),
  )
}
