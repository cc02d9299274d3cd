#include "launcher/workers/relay.h"

#include <algorithm>

namespace pylaunch {
namespace {

// The size of the first piece in `text`; 0: it has no end yet. "\r\n" is one end, so of a '\r' that
// comes last nobody knows.
size_t PieceSize(std::string_view text) {
  const size_t line = text.find('\n');
  const std::string_view within = text.substr(0, line);
  const size_t carriage = within.find('\r');
  if (carriage != text.npos && carriage + 1 < within.size()) return carriage + 1;
  return line + 1;
}

// The size of all pieces that have an end.
size_t WholePieces(std::string_view text) {
  const size_t lines = text.rfind('\n') + 1;
  const size_t carriage = text.substr(0, text.size() - (text.empty() ? 0 : 1)).rfind('\r');
  return carriage == text.npos ? lines : std::max(lines, carriage + 1);
}

}  // namespace

void Relay::Stream::Take(std::string_view bytes) {
  held_.append(bytes);
  Flush();
}

void Relay::Stream::End() {
  if (held_.empty() && relay_->owner_ != this) return;
  if (!held_.ends_with('\n')) held_.push_back('\n');
  Flush();
}

// Whole pieces.
void Relay::Stream::PassOn(std::string_view pieces) {
  while (!pieces.empty()) {
    const size_t end = PieceSize(pieces);
    const size_t size = end == 0 ? pieces.size() : end;  // What follows its '\r' is not among them.
    relay_->sink_.Append(prefix_);
    relay_->sink_.Append(pieces.substr(0, size));
    pieces.remove_prefix(size);
  }
}

void Relay::Stream::Flush() {
  if (relay_->owner_ != nullptr && relay_->owner_ != this) return relay_->Queue(this);
  if (relay_->owner_ == this) {  // In the midst of a piece that was begun.
    const size_t end = PieceSize(held_);
    const size_t size = end == 0 ? held_.size() : end;
    relay_->sink_.Append(std::string_view(held_).substr(0, size));
    held_.erase(0, size);
    relay_->progress_ += size;
    if (end == 0) return;
    relay_->owner_ = nullptr;
  }
  const size_t whole = WholePieces(held_);
  PassOn(std::string_view(held_).substr(0, whole));
  held_.erase(0, whole);
  if (held_.size() >= kHeld) {
    relay_->owner_ = this;
    relay_->sink_.Append(prefix_);
    relay_->sink_.Append(held_);
    held_.clear();
  }
  if (held_.capacity() > kHeld) held_.shrink_to_fit();
  if (relay_->owner_ == nullptr) relay_->Release();
}

void Relay::Interrupt() {
  if (owner_ == nullptr || waiting_.empty()) return;
  sink_.Append("\n");
  owner_ = nullptr;
  Release();
}

void Relay::Queue(Stream* stream) {
  if (!stream->waiting_) waiting_.push_back(stream);
  stream->waiting_ = true;
}

void Relay::Release() {
  while (owner_ == nullptr && !waiting_.empty()) {
    Stream* next = waiting_.front();
    waiting_.pop_front();
    next->waiting_ = false;
    next->Flush();
  }
}

}  // namespace pylaunch
