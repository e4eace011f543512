/**
 * The disk port: the few file operations that `store/` stands on.
 *
 * Implemented by `node-disk.ts` for real and by `memory-disk.ts` with a crash model for tests and simulation; both
 * pass the same conformance suite. Paths are absolute or relative to the disk's root, with `/` as separator.
 * A rejected write or sync is final: callers never retry it on the same file (fsyncgate).
 */
export interface Disk {
  /** Opens for reading and writing; `create` makes a missing file (the directory entry still needs a sync). */
  open(path: string, options: { readonly create: boolean }): Promise<DiskFile>
  /** Names of the entries of a directory, sorted; an empty list when the directory does not exist. */
  list(directory: string): Promise<readonly string[]>
  /** Makes a directory and its parents; the entries still need a sync of the parent. */
  makeDirectory(path: string): Promise<void>
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  /** Removes an empty directory; the removal still needs a sync of the parent. */
  removeDirectory(path: string): Promise<void>
  /** Makes created, renamed and removed entries of this directory durable. */
  syncDirectory(path: string): Promise<void>
  /** Of the file system that this directory lies on. */
  space(directory: string): Promise<DiskSpace>
}

export interface DiskSpace {
  /** What this user could fill in all. */
  readonly totalBytes: number
  /** What this user may still write. */
  readonly freeBytes: number
}

export interface DiskFile {
  readonly path: string
  /** At most `length` bytes from `position`; shorter only at the end of the file. */
  read(position: number, length: number): Promise<Buffer>
  /** Writes all bytes of all buffers, in order, from `position`. A short write without an error is an error here. */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>
  /** fdatasync: data and the size needed to read it. */
  sync(): Promise<void>
  truncate(length: number): Promise<void>
  size(): Promise<number>
  close(): Promise<void>
}

/** Error codes of the disk port that callers tell apart; everything else is a plain failure. */
export type DiskErrorCode = 'ENOSPC' | 'EIO' | 'EROFS' | 'ENOENT' | 'SHORT_WRITE'
