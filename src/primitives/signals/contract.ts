/**
 * What signals ask of an adapter: a line that carries short messages to all processes of the app, itself included.
 *
 * What must hold on every adapter:
 * - a message reaches each process whose line is up, unless it is lost: it may also come late, or after another one;
 * - `up` is called whenever messages may have been missed: when the line is there for the first time, and after each gap;
 * - a message that cannot be sent fails, and nothing waits for it.
 */
export interface SignalLine {
  /** Between two messages of one channel this process waits that long, ms: what is sent meanwhile goes together. */
  readonly pauseMs: number
  /** The most that a message may have. */
  readonly bytesMax: number
  publish(message: string): Promise<void>
  /** Once. It goes on trying until `close`. */
  subscribe(heard: (message: string) => void, up: () => void): void
  close(): Promise<void>
}
