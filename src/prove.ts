/** The door for proofs: what an app promises, said so that `rung prove` can try it. `import { defineProof } from 'rung/prove'`. */
export type { Client, ProofUser } from './prove/client.ts'
export {
  type Accounts,
  type Collection,
  defineProof,
  type Once,
  type Proof,
  type Queue,
  type Register,
} from './prove/proof.ts'
