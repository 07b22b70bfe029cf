import { wavesOf } from '../fleet/deployment.ts'
import { allSettings, pathsOf } from '../topology/read-settings.ts'
import { type Exported, type Files, literal, marked } from './files.ts'

/** The machine on which the units will be installed: that of the export, or one with the same paths. */
export interface Machine {
  /** The folder of the app; like all paths here absolute. */
  readonly cwd: string
  /** Node, and Rung's command line. */
  readonly program: readonly string[]
  readonly dataDir: string
  readonly backupDir: string | undefined
}

/**
 * Units for `rung up` on one machine: the service, its environment, and where the database is archived a weekly drill. Pure.
 *
 * - A signal reaches `rung up` alone (`KillMode=mixed`), which stops its parts in order. systemd gives it as long as all waves of that may take.
 * - `rung up` restarts its parts itself, so the death of one for want of memory does not end the others (`OOMPolicy`).
 * - Secrets are files, which `RUNG_X_FILE` names. Not systemd's credentials: those are copied at the start, so nothing could be replaced.
 * - `MemoryDenyWriteExecute` is missing: V8 and LuaJIT compile at run time.
 */
export function systemdFiles(exported: Exported & { readonly machine: Machine }): Files {
  const { deployment, settings, app, machine } = exported
  const { values } = settings
  const { topology } = deployment
  const name = app.name
  const dataDir = settings.given.has('process.dataDir') ? machine.dataDir : `/var/lib/${name}`
  const low = [values.http.port, values.tls.plainPort].some((port) => port !== undefined && port < 1024)
  // What is below the data directory is writable anyway, and need not be there before the first start.
  const backupDir = values.backup.dir === undefined ? undefined : machine.backupDir
  const writable = [dataDir, ...(backupDir === undefined ? [] : [backupDir])]
  const atHome = [machine.cwd, ...writable].some((folder) => /^\/(home|root|run\/user)(\/|$)/.test(folder))
  const command = (...words: readonly string[]) =>
    [...machine.program, ...words].map((word) => quoted(literal(word))).join(' ')
  const sandbox = `\
User=${name}
Group=${name}
WorkingDirectory=${specified(machine.cwd)}
EnvironmentFile=/etc/${name}/env
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=${low ? 'CAP_NET_BIND_SERVICE' : ''}
${low ? 'AmbientCapabilities=CAP_NET_BIND_SERVICE\n' : ''}\
ProtectSystem=strict
ReadWritePaths=${writable.map(quoted).join(' ')}
ProtectHome=${atHome ? 'read-only' : 'yes'}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
${topology.placement.cpu === undefined ? 'ProtectControlGroups=yes\n' : 'Delegate=cpu\n'}\
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
`
  const service = `\
${marked()}
# Install: docs/guides/one-server.md of Rung.
[Unit]
Description=${name} at rung ${topology.rung}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${command('up', topology.rung, ...(app.file === undefined ? [] : [app.file]))}
Restart=on-failure
RestartSec=5
KillMode=mixed
TimeoutStopSec=${stopSeconds(exported)}
OOMPolicy=continue
LimitNOFILE=65536
${dataDir === `/var/lib/${name}` ? `StateDirectory=${name}\nStateDirectoryMode=0700\n` : ''}\
${sandbox}
[Install]
WantedBy=multi-user.target
`
  const drill = {
    [`${name}-drill.service`]: `\
${marked()}
[Unit]
Description=Restore of ${name}'s latest backup beside its database, to compare them

[Service]
Type=oneshot
ExecStart=${command('backup', 'verify', '--drill', ...(values.backup.url === undefined ? [] : ['--from', 's3']))}
TimeoutStartSec=infinity
Nice=10
${sandbox}`,
    [`${name}-drill.timer`]: `\
${marked()}
[Unit]
Description=Drill of ${name}'s backups, each week

[Timer]
OnCalendar=Sun 04:00
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=timers.target
`,
  }
  return {
    [`${name}.service`]: service,
    [`${name}.env`]: environmentFile(exported, dataDir),
    ...(topology.archived && drill),
  }
}

/** All waves of a stop, each as long as the slowest process may take, and some time for the engines. */
function stopSeconds({ deployment, app }: Exported): number {
  const waves = new Set([...wavesOf(deployment).values()].map(({ stop }) => stop).filter((stop) => stop >= 0))
  return Math.ceil((waves.size * app.stopMs) / 1000) + 10
}

/** What the unit says itself. */
const inUnit = pathsOf(['rung', 'process.dataDir', 'process.mode'])

/** What was given for the export besides `rung.config.ts`, which the command reads itself. */
function environmentFile({ settings: { given }, app }: Exported, dataDir: string): string {
  const lines = [...given].flatMap(([path, { value, from }]) => {
    const { secret, variable, type } = allSettings.get(path)!
    if (from === 'file' || inUnit.has(path)) return []
    if (secret) return [`${variable}_FILE=/etc/${app.name}/secrets/${variable}`]
    return [`${variable}=${assigned(type.format(value as never))}`]
  })
  return `\
${marked()}
# Goes to /etc/${app.name}/env. Secrets are in files of their own, which ${app.name} may read.
NODE_ENV=production
RUNG_DATA=${assigned(dataDir)}
${lines.map((line) => `${line}\n`).join('')}`
}

/** A value in an environment file. */
function assigned(text: string): string {
  return /^[\w./:,@+-]*$/.test(text) ? text : `"${text.replace(/["\\$`]/g, '\\$&')}"`
}

const specified = (text: string) => text.replaceAll('%', '%%')

/** A path in a list. */
function quoted(text: string): string {
  const safe = specified(text)
  return /^[\w./:@%+=$-]+$/.test(safe) ? safe : `"${safe.replace(/["\\]/g, '\\$&')}"`
}
