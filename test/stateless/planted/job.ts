export function purge(): void {}
