import { buildOf } from '../fleet/releases.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { type DeliveryFigures, type Incident, listIncidents } from '../observe/alerts/incidents.ts'
import { rulesOf } from '../observe/alerts/owners.ts'
import { type KeptAlert, listAlerts } from '../observe/alerts/table.ts'
import { answersOf } from '../observe/record/summary.ts'
import { figuresOf } from '../planner/evidence.ts'
import type { ReadyFacts } from '../planner/ready.ts'
import type { ReportFacts } from '../planner/report.ts'
import { findApp, loadApp } from '../runtime/load-app.ts'
import { alertsOf, backupDirOf, dataDirOf } from '../topology/bindings.ts'
import { rungAfter, rungNames } from '../topology/catalog.ts'
import { checkedDecisions } from './adr.ts'
import { backupFacts, keptPlaces } from './climb-facts.ts'
import type { Input } from './command.ts'
import { readDemands } from './demands-file.ts'
import { type AppEvidence, evidenceOfApp } from './evidence-of-app.ts'
import { figuresIn } from './incidents.ts'
import { settingsOf } from './input-settings.ts'
import { lastProof } from './proved.ts'
import { framesIn } from './record.ts'

/** How an app stands: what `rung ready` and `rung report` are made of. */
export interface Standing extends AppEvidence {
  app: string
  now: number
  ready: ReadyFacts
  incidents: readonly Incident[]
  figures: DeliveryFigures | undefined
  /** Of the last 28 days. */
  answers: ReportFacts['answers']
  modules: readonly { name: string; owner: string }[]
}

const dayMs = 86_400_000
const windowMs = 28 * dayMs

/** @param to the rung to be ready for; without one it is the next */
export async function standingOf(input: Input, { app: given, to }: { app?: string; to?: string }): Promise<Standing> {
  const { cwd } = input
  const file = findApp(given, cwd)
  const now = systemClock.now()
  let [incidents, alerts] = [[] as Incident[], undefined as KeptAlert[] | undefined]
  let [figures, answers] = [undefined as DeliveryFigures | undefined, undefined as ReportFacts['answers']]
  const found = await evidenceOfApp(input, given, async ({ database, connection }) => {
    const kept = await listAlerts(database)
    if (kept === undefined) return // an older app, which has none of these tables
    alerts = kept
    const window = { from: now - windowMs, to: now }
    incidents = await listIncidents(database, window.from)
    figures = await figuresIn({ database, connection }, window)
    answers = answersOf(await framesIn(database, window.from, window.to))
  })
  const { evidence, usage, examined } = found
  const settings = await settingsOf(input, { app: file, rung: evidence.topology.rung })
  const dataDir = dataDirOf(settings, cwd)
  const app = file === undefined ? undefined : await loadApp(given, cwd).catch(() => undefined)
  const demands = await readDemands(dataDir)
  const build = file && demands?.build ? await buildOf(file, dataDir) : undefined
  const told = alertsOf(settings.values)
  const rung = evidence.topology.rung
  const decisions = await checkedDecisions(cwd, figuresOf(evidence), evidence.today)
  const ready: ReadyFacts = {
    ...{ now, rung, rungs: rungNames },
    to: to ?? rungAfter(rung) ?? '1m',
    loadTest: demands && {
      at: Date.parse(demands.at),
      rung: demands.rung,
      rate: demands.limit.rate * demands.limit.requests,
      isOpen: demands.limit.isOpen,
      isOfOtherBuild: build !== undefined && demands.build !== undefined && build !== demands.build,
    },
    headroom: evidence.forecast?.headroom?.free.likely,
    kept: await (file === undefined ? undefined : keptPlaces(file, cwd))
      ?.then((all) => all.map(({ place, what }) => `${place}: ${what}`))
      .catch(() => undefined),
    proof: await lastProof(dataDir),
    recorded: !found.isRecordRead
      ? undefined
      : settings.values.record === 'off' && evidence.window.hours === 0
        ? null
        : evidence.window,
    usersKnown: usage?.registered !== undefined,
    alerts: told
      ? {
          told: [...(told.webhook === undefined ? [] : ['webhook']), ...(told.mail.length > 0 ? ['mail'] : [])],
          rules: app ? rulesOf(app).length : 0,
          owner: app?.alerts.owner,
        }
      : null,
    present: alerts && {
      firing: [...new Set(alerts.filter(({ state }) => state === 'firing').map(({ rule }) => rule))],
      openIncidents: incidents.filter(({ closedAt }) => closedAt === null).length,
    },
    backup: settings.values.data.url === undefined ? await backupFacts(backupDirOf(settings, cwd), dataDir) : undefined,
    deploys: figures && { count: figures.deploys, failedShare: figures.failedShare ?? 0 },
    doctor: examined ? evidence.doctor.filter(({ severity }) => severity === 'act').map(({ what }) => what) : undefined,
    decisionsDue: decisions.filter(({ isDue }) => isDue).map(({ title }) => title),
  }
  const name = app?.name ?? (await runningFleet(dataDir))?.app ?? 'app'
  return {
    ...{ ...found, app: name, now, ready, incidents, figures, answers },
    modules: (app?.modules ?? []).map(({ name, owner }) => ({ name, owner })),
  }
}
