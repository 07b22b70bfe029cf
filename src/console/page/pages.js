import { advice } from './advice.js'
import { cache } from './cache.js'
import { capacity } from './capacity.js'
import { changes } from './changes.js'
import { data } from './data.js'
import { errors } from './errors.js'
import { ladder } from './ladder.js'
import { mail } from './mail.js'
import { proofs } from './proofs.js'
import { topology } from './topology.js'
import { traces } from './traces.js'
import { traffic } from './traffic.js'
import { work } from './work.js'

/** In the order of the navigation. */
export const pages = [
  ladder,
  topology,
  traffic,
  errors,
  data,
  cache,
  work,
  capacity,
  proofs,
  advice,
  changes,
  traces,
  mail,
]
