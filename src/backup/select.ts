import { RungError } from '../kernel/errors.ts'
import type { Catalogue, Timeline } from './catalogue.ts'
import type { History } from './history.ts'
import { cataloguesOf, type Place } from './place.ts'
import { archivedOf, choose, currentTimeline, lastAt, ranges, rivals, type Window, windows } from './policy.ts'
import { inIso } from './report.ts'

export interface Selection {
  place: Place
  /** Ms since the epoch. */
  time: number | 'latest'
  /** Which database, where the directory holds backups of several; otherwise that of `own`, if it is among them. */
  system?: string | undefined
  /** Which timeline; otherwise the newest of `own`, otherwise the one archived last. */
  timeline?: string | undefined
  /** The database that the restored one continues. */
  own?: History | undefined
}

/**
 * Finds the base backup and the log from which a database can be restored to a time.
 * @throws BACKUP_NOT_FOUND, BACKUP_OUT_OF_RANGE; CONFIG_INVALID where several databases could be meant
 */
export async function selectBackup(selection: Selection): Promise<{ catalogue: Catalogue; window: Window }> {
  const catalogue = catalogueFor(await cataloguesOf(selection.place, selection.system), selection)
  const timeline = timelineFor(catalogue, selection)
  const all = windows(catalogue, timeline)
  const window = choose(all, selection.time)
  if (window) return { catalogue, window }
  const possible = ranges(all).map(inIso)
  throw new RungError(
    'BACKUP_OUT_OF_RANGE',
    possible.length === 0
      ? `No base backup in ${catalogue.folder} has its log on timeline ${timeline.id}. Run rung backup verify to see why.`
      : `The backups on timeline ${timeline.id} reach ${possible.map(({ from, to }) => `from ${from} to ${to}`).join(', and ')}. Give a time within, or latest.`,
    { facts: { ranges: possible } },
  )
}

function catalogueFor(all: readonly Catalogue[], { system, own, place }: Selection): Catalogue {
  const withBases = all.filter(({ bases }) => bases.length > 0)
  const preferred = withBases.find((one) => one.system === (system ?? own?.system))
  if (preferred) return preferred
  if (withBases.length === 0 || system !== undefined) {
    const others =
      withBases.length === 0 ? '' : ` of ${system}, only of ${withBases.map((one) => one.system).join(', ')}`
    throw new RungError(
      'BACKUP_NOT_FOUND',
      `There is no base backup in ${place.name}${others}. Name the place with --from.`,
    )
  }
  if (withBases.length === 1) return withBases[0]!
  const names = withBases.map((one) => `${one.system} (${one.bases.at(-1)!.id})`)
  throw new RungError(
    'CONFIG_INVALID',
    `${place.name} holds backups of several databases, here with their newest: ${names.join(', ')}. Name one with --system.`,
  )
}

function timelineFor(catalogue: Catalogue, { timeline: asked, own }: Selection): Timeline {
  const ofOwn = own?.system === catalogue.system ? archivedOf(catalogue, own) : undefined
  const found =
    asked === undefined
      ? (ofOwn ?? currentTimeline(catalogue))
      : catalogue.timelines.find(({ id, segments }) => String(id) === asked && segments.length > 0)
  const others = found && asked === undefined && ofOwn === undefined ? rivals(catalogue, found) : []
  if (found && others.length > 0) {
    const lives = [found, ...others].map((one) => `${one.id} (until ${new Date(lastAt(one)).toISOString()})`)
    throw new RungError(
      'CONFIG_INVALID',
      `In ${catalogue.folder}, copies of the database went on beside each other, on timelines ${lives.join(' and ')}. Name the one that counts with --timeline.`,
    )
  }
  if (found) return found
  const ids = catalogue.timelines.map(({ id }) => id).join(', ') || 'none'
  throw new RungError(
    'BACKUP_NOT_FOUND',
    `There is no log${asked === undefined ? '' : ` of timeline ${asked}`} in ${catalogue.folder}; there are timelines: ${ids}.`,
  )
}
