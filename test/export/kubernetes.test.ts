import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse, parseAllDocuments } from 'yaml'
import { isMarked } from '../../src/export/files.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import { rungs } from '../../src/topology/catalog.ts'
import { parseNatsUrls } from '../../src/topology/urls.ts'
import { type Env, filesFor, rungNames } from '../support/exported.ts'
import { withTempDir } from '../support/postgres.ts'

interface Probe {
  httpGet?: { path: string; port: string }
}
interface Container {
  name: string
  env?: { name: string; value?: string; valueFrom?: { secretKeyRef: { name: string; key: string } } }[]
  envFrom?: { configMapRef?: { name: string }; secretRef?: { name: string } }[]
  ports?: { name: string; containerPort: number }[]
  livenessProbe?: Probe
  readinessProbe?: Probe
  lifecycle?: { preStop: { sleep: { seconds: number } } }
  volumeMounts?: { name: string }[]
}
interface PodSpec {
  terminationGracePeriodSeconds: number
  initContainers?: Container[]
  containers: Container[]
  volumes?: { name: string; configMap?: { name: string } }[]
}
interface Manifest {
  file: string
  apiVersion: string
  kind: string
  metadata: { name: string }
  spec: {
    replicas?: number
    selector?: Record<string, unknown>
    template?: { metadata: { labels: Record<string, string> }; spec: PodSpec }
    volumeClaimTemplates?: { metadata: { name: string } }[]
    ports?: { port: number; targetPort?: number }[]
    [more: string]: unknown
  }
}

const rootModules = fileURLToPath(new URL('../../node_modules', import.meta.url))

function manifestsOf(rung: string, env: Env = {}): Manifest[] {
  return Object.entries(filesFor('kubernetes', rung, env))
    .filter(([name]) => name.endsWith('.yaml') && !name.endsWith('kustomization.yaml'))
    .flatMap(([file, text]) => parseAllDocuments(text).map((one) => ({ file, ...one.toJS() })))
}

const moduleOf = ({ apiVersion, kind }: Manifest) =>
  `${apiVersion.startsWith('postgresql.cnpg.io/') ? '@kubernetes-models/cloudnative-pg' : 'kubernetes-models'}/${apiVersion}/${kind}`

describe('manifests for Kubernetes', () => {
  it('have the values that the schemas of Kubernetes and CloudNativePG allow', async () => {
    for (const rung of rungNames) {
      for (const { file, ...manifest } of manifestsOf(rung)) {
        const models = await import(moduleOf({ file, ...manifest }))
        const model = new models[manifest.kind](manifest)
        assert.doesNotThrow(() => model.validate(), `${rung} ${file} ${manifest.kind}`)
      }
    }
  })

  it('have no field that the schemas do not know', () =>
    withTempDir(async (dir) => {
      await symlink(rootModules, path.join(dir, 'node_modules'))
      const check = async (manifests: readonly Manifest[]) => {
        const code = manifests.map(({ file: _, ...manifest }, index) => {
          const type = `import('${moduleOf({ file: '', ...manifest })}').I${manifest.kind}`
          return `export const m${index} = ${JSON.stringify(manifest)} satisfies ${type}\n`
        })
        await writeFile(path.join(dir, 'manifests.ts'), code.join(''))
        const options = [
          '--noEmit',
          '--strict',
          '--skipLibCheck',
          '--target',
          'es2024',
          '--module',
          'nodenext',
          '--types',
          '',
        ]
        return spawnSync(path.join(rootModules, '.bin/tsc'), [...options, 'manifests.ts'], {
          cwd: dir,
          encoding: 'utf8',
        })
      }
      const { status, stdout } = await check(rungNames.flatMap((rung) => manifestsOf(rung)))
      assert.equal(status, 0, stdout)
      const [service] = manifestsOf('1k').filter(({ kind }) => kind === 'Service')
      const wrong = await check([{ ...service!, spec: { ...service!.spec, portz: [] } }])
      assert.match(wrong.stdout, /portz/) // the check can fail
    }))

  for (const rung of rungNames) {
    it(`fit together at ${rung}`, () => {
      const files = filesFor('kubernetes', rung)
      const all = manifestsOf(rung)
      const kustomization = parse(files['base/kustomization.yaml']!)
      const named = kustomization.resources.map((name: string) => `base/${name}`)
      assert.deepEqual(named.toSorted(), [...new Set(all.map(({ file }) => file))].toSorted())
      const maps = new Map<string, { files?: string[]; literals?: string[] }>(
        kustomization.configMapGenerator.map((one: { name: string }) => [one.name, one]),
      )
      for (const { files: named = [] } of maps.values())
        for (const name of named) assert.ok(`base/${name}` in files, name)
      const secret = [...files['secret.env.example']!.matchAll(/^(\w+)=$/gm)].map((match) => match[1]!)

      for (const { file, kind, metadata, spec } of all) {
        const pod = spec.template?.spec
        if (!pod) continue
        const containers = [...(pod.initContainers ?? []), ...pod.containers]
        const claimed = (spec.volumeClaimTemplates ?? []).map(({ metadata: { name } }) => name)
        const volumes = [...(pod.volumes ?? []).map(({ name }) => name), ...claimed]
        for (const { configMap } of pod.volumes ?? []) if (configMap) assert.ok(maps.has(configMap.name), file)
        for (const { env = [], envFrom = [], volumeMounts = [] } of containers) {
          for (const { name } of volumeMounts) assert.ok(volumes.includes(name), `${file} ${name}`)
          for (const { configMapRef } of envFrom) if (configMapRef) assert.ok(maps.has(configMapRef.name), file)
          for (const { valueFrom } of env) {
            const { name, key } = valueFrom?.secretKeyRef ?? {}
            if (name === 'app') assert.ok(secret.includes(key!), `${file} ${key}`)
            else if (name !== undefined) assert.deepEqual([name, key], ['postgres-app', 'password'])
          }
        }
        if (kind !== 'Deployment') continue
        assert.deepEqual(spec.selector, { matchLabels: { part: metadata.name } })
        assert.deepEqual(spec.template!.metadata.labels, { part: metadata.name })
        for (const { name, livenessProbe } of containers) assert.ok(livenessProbe, `${file} ${name}`)
        const edge = containers.find(({ name }) => name === 'edge')
        if (edge) {
          const { path: asked, port } = edge.livenessProbe!.httpGet!
          assert.ok(edge.ports!.some(({ name }) => name === port))
          assert.ok(files['base/edge/nginx.conf']!.includes(`location = ${asked} {`))
        }
        const app = pod.containers.find(({ name }) => name === 'app')
        if (!app) continue
        assert.equal(app.livenessProbe!.httpGet!.path, '/healthz') // which does not ask the database
        assert.equal(app.readinessProbe!.httpGet!.path, '/readyz')
        assert.ok(app.lifecycle!.preStop.sleep.seconds + 60 < pod.terminationGracePeriodSeconds)
        const isScaled = all.some(
          (one) => one.kind === 'HorizontalPodAutoscaler' && one.metadata.name === metadata.name,
        )
        assert.equal(spec.replicas === undefined, isScaled) // both would fight
      }

      for (const { kind, spec, file } of all) {
        const { part } = (spec.selector ?? {}) as { part?: string }
        if (kind !== 'Service' || part === undefined) continue
        const pod = all.find((one) => /^(Deployment|StatefulSet)$/.test(one.kind) && one.metadata.name === part)!.spec
          .template!.spec
        const ports = [...(pod.initContainers ?? []), ...pod.containers].flatMap((one) => one.ports ?? [])
        for (const { port, targetPort = port } of spec.ports!)
          assert.ok(
            ports.some(({ containerPort }) => containerPort === targetPort),
            `${file} ${targetPort}`,
          )
      }
    })

    it(`tell the processes at ${rung} what they read`, () => {
      const { configMapGenerator } = parse(filesFor('kubernetes', rung)['base/kustomization.yaml']!)
      const settings = Object.fromEntries(
        configMapGenerator
          .find((one: { name: string }) => one.name === 'app')
          .literals.map((one: string) => one.split(/=(.*)/s).slice(0, 2)),
      )
      const secret = {
        RUNG_SECRET: 'a root of all keys, long enough to be one',
        REDIS_PASSWORD: 'r',
        NATS_PASSWORD: 'n',
        RUNG_EDGE_SECRET: 'e',
      }
      for (const { metadata, spec, kind } of manifestsOf(rung)) {
        const app = spec.template?.spec.containers.find(({ name }) => name === 'app')
        if (kind !== 'Deployment' || !app) continue
        const known: Record<string, string> = { ...secret, DATABASE_PASSWORD: 'd' }
        const own = app.env!.flatMap(({ name, value }): [string, string][] =>
          value === undefined ? [] : [[name, value.replace(/\$\((\w+)\)/g, (_, of: string) => known[of]!)]],
        )
        const bindings = readBindings(
          { HOST: '0.0.0.0', PORT: '3000', ...settings, ...secret, ...Object.fromEntries(own) },
          '/app',
        )
        assert.equal(bindings.role, metadata.name === 'app' ? 'both' : metadata.name)
        assert.equal(bindings.rung, rung)
        assert.equal(bindings.http.port, app.ports![0]!.containerPort)
        assert.ok(bindings.data.engine === 'external')
        assert.equal(bindings.data.url, 'postgres://app:d@postgres-rw:5432/app')
        assert.equal(bindings.data.readUrls.length, rungs[rung].data.replicas > 0 ? 3 : 0)
        assert.equal(bindings.edge?.url, metadata.name === 'web' ? 'http://127.0.0.1:9001' : undefined)
        assert.equal(bindings.cache.shared?.urls[0], rung === '1k' ? undefined : 'redis://:r@redis:6379')
      }
    })
  }

  it('run NATS where events go over it, and lead the processes to its nodes', () => {
    const env = { RUNG_EVENTS: 'jetstream', RUNG_NATS_NODES: '3' }
    const all = manifestsOf('100k', env)
    const nats = all.find(({ kind, metadata }) => kind === 'StatefulSet' && metadata.name === 'nats')!
    assert.equal(nats.spec.replicas, 3)
    const { args } = nats.spec.template!.spec.containers[0] as unknown as { args: string[] }
    assert.deepEqual(
      args[args.indexOf('--routes') + 1]!.split(',').map((url) => url.split('@')[1]),
      [0, 1, 2].map((at) => `nats-${at}.nats:6222`),
    )
    const worker = all.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === 'worker')!
    const told = (name: string) =>
      worker.spec.template!.spec.containers[0]!.env!.find((one) => one.name === name)?.value
    const url = told('RUNG_NATS_URL')!.replaceAll('$(NATS_PASSWORD)', 'n')
    assert.deepEqual(
      parseNatsUrls(url)!.servers,
      [0, 1, 2].map((at) => `nats-${at}.nats:4222`),
    )
    assert.equal(told('RUNG_NATS_NODES'), '3')
    assert.match(filesFor('kubernetes', '100k', env)['secret.env.example']!, /^NATS_PASSWORD=$/m)
    assert.equal(
      manifestsOf('100k').some(({ metadata }) => metadata.name === 'nats'),
      false,
    )
  })

  it('believe private networks only where nobody has named the proxies', () => {
    const believed = (env: Env, trustedProxies: readonly string[] = []) => {
      const file = filesFor('kubernetes', '1k', env, { trustedProxies })['base/kustomization.yaml']!
      return /RUNG_TRUST_PROXY=([^"\n]*)/.exec(file)![1]
    }
    assert.equal(believed({}), '10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10')
    assert.equal(believed({ RUNG_TRUST_PROXY: '10.42.0.0/16' }), '10.42.0.0/16')
    assert.equal(believed({}, ['10.42.0.0/16']), '10.42.0.0/16')
  })

  it('scale between the numbers of a setting', () => {
    const scaler = (env: Env, name: string) =>
      manifestsOf('100k', env).find((one) => one.kind === 'HorizontalPodAutoscaler' && one.metadata.name === name)?.spec
    assert.equal(scaler({}, 'web')!.maxReplicas, 9)
    assert.equal(scaler({ RUNG_WEB: '2..5' }, 'web')!.maxReplicas, 5)
    assert.equal(scaler({ RUNG_WEB: '2..5' }, 'web')!.minReplicas, 2)
    assert.equal(scaler({}, 'worker'), undefined)
    assert.equal(scaler({ RUNG_WORKER: '1..4' }, 'worker')!.maxReplicas, 4)
  })

  it('allow Postgres the connections of all poolers and processes', () => {
    const [cluster] = manifestsOf('100k', { RUNG_WEB: '2..30' }).filter(({ kind }) => kind === 'Cluster')
    const { parameters } = cluster!.spec.postgresql as { parameters: Record<string, string> }
    // Two poolers with 50 connections for each of its two addresses, four past them for each of 32 processes, and 20 others.
    assert.ok(Number(parameters.max_connections) >= 2 * 50 * 2 + 32 * 4 + 20, parameters.max_connections)
  })

  it('lead to the primary by its own name, whichever instance it is, and to each instance', () => {
    const services = manifestsOf('100k').filter(({ file, kind }) => file === 'base/postgres.yaml' && kind === 'Service')
    const leadTo = services.map(({ metadata, spec }) => [metadata.name, spec.selector!['cnpg.io/instanceName']])
    assert.deepEqual(leadTo, [
      ['postgres-a', 'postgres-1'],
      ['postgres-b', 'postgres-2'],
      ['postgres-c', 'postgres-3'],
    ])
    const pools = filesFor('kubernetes', '100k')['base/pgbouncer.ini']!
    const hosts = [...pools.matchAll(/^(\S+)\.write = host='(\S+)'/gm)].map(([, name, host]) => [name, host])
    assert.deepEqual(hosts, [
      ['postgres', 'postgres-rw'],
      ['postgres-2', 'postgres-a'],
      ['postgres-3', 'postgres-b'],
      ['postgres-4', 'postgres-c'],
    ])
  })

  it('have one file that is written once, for what somebody changes', () => {
    const marked = Object.entries(filesFor('kubernetes', '100k')).filter(([, text]) => !isMarked(text))
    assert.deepEqual(
      marked.map(([name]) => name),
      ['kustomization.yaml'],
    )
    const overlay = parse(filesFor('kubernetes', '100k')['kustomization.yaml']!)
    assert.deepEqual(overlay.resources, ['base'])
    assert.equal(overlay.images[0].name, 'app')
  })

  it('put workers on spot nodes by a component', () => {
    const { kind, patches } = parse(filesFor('kubernetes', '100k')['spot/kustomization.yaml']!)
    assert.equal(kind, 'Component') // an overlay below its base is refused as a circle
    const patch = parse(patches[0].patch)
    assert.deepEqual(patches[0].target, { kind: patch.kind, name: patch.metadata.name })
    assert.ok(patch.spec.template.spec.tolerations.length > 0)
    assert.equal(filesFor('kubernetes', '1k')['spot/kustomization.yaml'], undefined)
  })
})
