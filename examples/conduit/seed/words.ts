import { pick, type Random, zipfSet } from './random.ts'

/** Names, titles and texts: nobody reads them all, but lists should look like lists. */

const firstNames =
  'ada amir anna bao carla chidi clara david diego elena emma fatima felix grace hana hugo ines ivan jonas kenji laila leo lina luca maria mei milan nadia noah nora olga omar paul priya rosa sara sofia tariq tom yara zoe'.split(
    ' ',
  )
const lastNames =
  'abe adler bauer becker berg bianchi cohen costa diaz dubois eriksen fischer garcia haas hansen ito jansen kaya keller khan kim kovacs larsen lopez maier mbeki moreau nagy novak okafor park patel perez popov rossi sato silva singh tanaka weber wolf yilmaz'.split(
    ' ',
  )
const subjects =
  'javascript typescript postgres sql indexes transactions caching queues node http rest graphql testing debugging logging tracing metrics security passwords sessions deployment containers linux networking dns tls git reviews refactoring design architecture documentation accessibility css html browsers performance latency concurrency recovery backups'.split(
    ' ',
  )
const angles =
  'basics internals patterns mistakes tips tools history interviews books teams scale costs migration errors questions'.split(
    ' ',
  )
const openings = [
  'Understanding',
  'A field guide to',
  'What nobody tells you about',
  'Ten years of',
  'Lessons from',
  'A short introduction to',
  'Rethinking',
  'The quiet power of',
  'Notes on',
  'How we came to like',
  'Getting started with',
  'The true price of',
]
const sentences = [
  'It began, as these things do, with a small change on a Friday.',
  'We measured first, and were wrong about nearly everything.',
  'The first version was simple, and it served us for two years.',
  'Nobody remembered why the limit was there until we removed it.',
  'A good default is worth more than a long page of options.',
  'The slow part was never where we had looked.',
  'Every layer that hides a failure moves it to a worse place.',
  'We wrote the test after the outage, which is the usual order.',
  'Most of the work was deleting what we no longer needed.',
  'If you take away one thing, let it be this: look at the plan.',
  'The numbers below come from one machine and one afternoon.',
  'It is not the clever solution, and that is its best property.',
  'Half of the requests asked for the same twenty rows.',
  'Reading the manual took an hour and saved a month.',
  'The fix was one line; finding it took three people.',
  'We kept the old path running beside the new one for a week.',
  'Names matter: the module was hard to change because it was hard to name.',
  'There is a trade here, and it should be made on purpose.',
  'What surprised us was how little had to change.',
  'In the end we shipped it without telling anyone, and nobody noticed.',
]

/** Several hundred, the commonest first: `javascript`, …, `javascript-basics`, … */
export const tags: readonly string[] = [
  ...subjects,
  ...angles.flatMap((angle) => subjects.map((subject) => `${subject}-${angle}`)),
]

export function nameOf(random: Random): string {
  return `${pick(random, firstNames)}-${pick(random, lastNames)}`
}

export function titleOf(random: Random): string {
  const [first, second] = [pick(random, subjects), pick(random, angles)]
  return `${pick(random, openings)} ${first} ${second}`
}

export function textOf(random: Random, least: number, most: number): string {
  const count = least + Math.floor(random() * (most - least + 1))
  return Array.from({ length: count }, () => pick(random, sentences)).join(' ')
}

/** None to five. */
export function tagsOf(random: Random): string[] {
  return Array.from(zipfSet(random, Math.floor(random() * 6), tags.length), (index) => tags[index]!)
}
