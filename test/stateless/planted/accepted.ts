// rung: one process is enough, because each counts for its own log
let counted = 0
// rung: one process is enough
let unexplained = 0 // found: no-reason
let misplaced = 0 // rung: one process is enough, because it says so behind the line

export function accepted(_: string): number {
  counted += 1
  misplaced += 1
  unexplained += 1
  return counted + misplaced + unexplained
}
